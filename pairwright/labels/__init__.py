"""Asking people: `pairwright label`, and what the stage `label` stands on."""
