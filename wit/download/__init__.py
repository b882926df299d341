"""download: host partitions of the plan -> raw shards, each a tar of pictures and a table of what became of every row."""
