"""Training on preference pairs, and what it changed: DPO, its reference, and the evaluation."""
