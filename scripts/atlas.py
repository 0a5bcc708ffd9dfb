"""Show what every layer of a network hears in a data set, on one HTML page with sounds."""

from keras_audio_transfer.commands import atlas, cli

if __name__ == "__main__":
    cli.run(atlas.main)
