"""Train a network on a data set and export it as a model folder."""

from keras_audio_transfer.commands import cli, train

if __name__ == "__main__":
    cli.run(train.main)
