"""Measure the speed and memory that the documents quote, as ratios within one run."""

from keras_audio_transfer.commands import benchmark, cli

if __name__ == "__main__":
    cli.run(benchmark.main)
