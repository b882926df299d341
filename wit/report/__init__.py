"""What a person reads after a build: the ledger's tables, one HTML page, the dataset card and its Croissant description."""
