"""Files and arrays -> waveforms."""
