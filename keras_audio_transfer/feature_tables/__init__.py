"""Tables of features: a row a clip, of every layer."""
