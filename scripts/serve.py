"""Serve a model folder over HTTP, as TensorFlow Serving's REST interface does, without Docker."""

from keras_audio_transfer.commands import cli, serve

if __name__ == "__main__":
    cli.run(serve.main)
