"""6 · How it is trained."""
