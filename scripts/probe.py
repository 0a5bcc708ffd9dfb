"""Fit SVM probes on a features file: what does each layer know of the task?"""

from keras_audio_transfer.commands import cli, probe

if __name__ == "__main__":
    cli.run(probe.main)
