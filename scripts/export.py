"""Export a model to a model folder, or add a version of its SavedModel to one."""

from keras_audio_transfer.commands import cli, export

if __name__ == "__main__":
    cli.run(export.main)
