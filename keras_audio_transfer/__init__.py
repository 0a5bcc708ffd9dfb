"""Transfer learning on audio with Keras: every layer of a network as a named feature."""
