"""Turn the published weights of Choi et al. 2017 into a model folder."""

from keras_audio_transfer.commands import cli, import_choi2017

if __name__ == "__main__":
    cli.run(import_choi2017.main)
