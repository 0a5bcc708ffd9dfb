"""Make the tables of several comparisons of sources, from the folders that 'compare' writes."""

from keras_audio_transfer.commands import cli, summarise_sources

if __name__ == "__main__":
    cli.run(summarise_sources.main)
