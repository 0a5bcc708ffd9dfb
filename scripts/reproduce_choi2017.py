"""Score the features that Choi et al. 2017 published, and compare with their scores."""

from keras_audio_transfer.commands import cli, reproduce_choi2017

if __name__ == "__main__":
    cli.run(reproduce_choi2017.main)
