"""7 · How it is used."""
