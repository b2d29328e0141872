"""The gate between proposed pairs and the dataset: one file a family of checks."""
