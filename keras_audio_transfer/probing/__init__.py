"""Features -> SVM probes, without TensorFlow."""
