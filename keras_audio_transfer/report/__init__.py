"""A classifier's report: one page for people, which needs nothing else. Without TensorFlow."""
