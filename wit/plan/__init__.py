"""plan: candidates -> one row per URL, deduplicated, balanced, in shard lists by host partition."""
