"""3 · What to do about it: spacing, topology, memory, presets, schedule length. Arithmetic only."""
