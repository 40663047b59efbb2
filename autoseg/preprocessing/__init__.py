"""4 · Image space to network space and back, and the prepared store."""
