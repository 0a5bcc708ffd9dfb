"""Turn a published network into a model folder, with every layer open."""

from keras_audio_transfer.commands import cli
from keras_audio_transfer.commands.main import module_of

if __name__ == "__main__":
    cli.run(module_of("import").main)
