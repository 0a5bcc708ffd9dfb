"""Work out what many hours of audio cost, from what `benchmark --growth` has measured."""

from keras_audio_transfer.commands import cli, summarise_scale

if __name__ == "__main__":
    cli.run(summarise_scale.main)
