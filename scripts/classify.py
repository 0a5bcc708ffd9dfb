"""Make a classifier of your own sounds: a folder with a sub-folder of audio a class -> a model folder."""

from keras_audio_transfer.commands import classify, cli

if __name__ == "__main__":
    cli.run(classify.main)
