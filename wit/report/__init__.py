"""The report, for people: the ledger's tables, one HTML page, the dataset card and its Croissant description."""
