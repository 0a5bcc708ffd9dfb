"""Try a model on a page in the browser: drop a recording or record one, and see its labels."""

from keras_audio_transfer.commands import cli, demo

if __name__ == "__main__":
    cli.run(demo.main)
