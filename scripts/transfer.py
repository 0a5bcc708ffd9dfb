"""Transfer a trained network to another data set, and compare that with doing without."""

from keras_audio_transfer.commands import cli, transfer

if __name__ == "__main__":
    cli.run(transfer.main)
