"""Answers whose winner is known, sent down the whole road: no law may break."""
