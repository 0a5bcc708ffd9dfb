"""List the published networks that `import` knows: trained on what, good for what, how large, under which licence."""

from keras_audio_transfer.commands import cli, models

if __name__ == "__main__":
    cli.run(models.main)
