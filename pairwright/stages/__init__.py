"""The stages of a run, each made from files of the stages before it."""
