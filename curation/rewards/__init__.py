"""Rewards: one score a completion, the same in ranking, training and evaluation."""
