"""The front door: commands, the stages in order, reports."""
