"""2 · What the data look like."""
