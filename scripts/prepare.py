"""Prepare a data set: decode, check and resample its clips once, into shards of TFRecord with an index."""

from keras_audio_transfer.commands import cli, prepare

if __name__ == "__main__":
    cli.run(prepare.main)
