"""Suggest which clips to label next, or whose label to check, for a model that 'classify' wrote."""

from keras_audio_transfer.commands import cli, suggest

if __name__ == "__main__":
    cli.run(suggest.main)
