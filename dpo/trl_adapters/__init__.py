"""Every hook into TRL's trainers, one file a trainer. TRL is pinned to 1.16."""
