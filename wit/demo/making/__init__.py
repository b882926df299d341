"""The code that made the assets of the demonstration web: run once, by hand."""
