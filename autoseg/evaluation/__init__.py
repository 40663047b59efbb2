"""8 · How good it is."""
