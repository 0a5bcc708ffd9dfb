"""Which source? Probe several networks on the same clips, layer by layer and joined, beside the floors."""

from keras_audio_transfer.commands import cli, compare

if __name__ == "__main__":
    cli.run(compare.main)
