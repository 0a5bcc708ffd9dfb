"""Make tables and pictures of several transfers, from the results.csv of each."""

from keras_audio_transfer.commands import cli, summarise_transfer

if __name__ == "__main__":
    cli.run(summarise_transfer.main)
