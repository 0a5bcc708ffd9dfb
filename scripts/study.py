"""What transfers, from where, at which depth? Sources x targets x features x clips x seeds, in one table."""

from keras_audio_transfer.commands import cli, study

if __name__ == "__main__":
    cli.run(study.main)
