"""From prompts to preference pairs: sample, rank, pair, and the gate before training."""
