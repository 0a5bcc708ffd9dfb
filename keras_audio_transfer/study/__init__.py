"""A study: sources x targets x features x classifiers x clips x seeds, and what they say."""
