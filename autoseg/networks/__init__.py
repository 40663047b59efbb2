"""5 · What is trained."""
