"""Compute the MFCC baseline of Choi et al. 2017 for a data set, or for audio files and folders."""

from keras_audio_transfer.commands import cli, mfcc

if __name__ == "__main__":
    cli.run(mfcc.main)
