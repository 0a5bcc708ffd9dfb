"""Keras model -> SavedModel, TensorFlow Lite, TensorFlow Serving; each checked in a fresh process."""
