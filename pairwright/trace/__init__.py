"""The history of one pair or rollout, read from a run's files alone."""
