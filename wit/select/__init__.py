"""select: raw tables, no pixels -> the samples to keep. Filters, duplicates, and the balance again with what survived."""
