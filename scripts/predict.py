"""Predict the class of audio files, with the SavedModel of a model folder that has scores."""

from keras_audio_transfer.commands import cli, predict

if __name__ == "__main__":
    cli.run(predict.main)
