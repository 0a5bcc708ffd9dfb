"""A model for others: behind a REST interface, or on a page."""
