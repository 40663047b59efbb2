"""1 · What the user has: layouts, readers and writers, geometry, checks, folds."""
