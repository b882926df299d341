"""candidates: groups of source files -> matched, clean pairs, and every other pair with the reason it left."""
