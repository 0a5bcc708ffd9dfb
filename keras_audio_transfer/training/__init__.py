"""Keras models are trained here, from waveforms or spectrograms."""
