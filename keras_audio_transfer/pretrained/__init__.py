"""Published networks, one module each."""
