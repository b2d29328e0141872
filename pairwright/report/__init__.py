"""The report of a run: what its stored files say, in words, figures and charts."""
