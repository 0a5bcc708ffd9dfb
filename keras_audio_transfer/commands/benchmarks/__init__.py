"""What `benchmark` measures: one module a part."""
