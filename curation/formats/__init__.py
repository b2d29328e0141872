"""Files in and out: rows and messages from anybody's files, datasets for TRL."""
