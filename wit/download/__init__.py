"""download: host partitions of the plan -> raw shards, each a tar of pictures and a table with the fate of every row."""
