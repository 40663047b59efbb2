"""Shared pure functions on arrays: orientation, crop, resample, normalize, labels, tiles. No files, no plan."""
