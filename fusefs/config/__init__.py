"""Options of stores and mounts: parsed once, then passed down as values."""
