"""Compute the features of every layer for a data set, or for audio files and folders."""

from keras_audio_transfer.commands import cli, extract

if __name__ == "__main__":
    cli.run(extract.main)
