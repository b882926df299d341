"""publish: keep list + raw shards -> final shards, by copying byte ranges of pictures; txt and json files are written anew."""
