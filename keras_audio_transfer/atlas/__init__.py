"""A page that shows what the layers of a network hear."""
