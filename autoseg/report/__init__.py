"""9 · What a person sees."""
