"""Making data sets: recipes, shards, and the commands generate, verify, describe."""
