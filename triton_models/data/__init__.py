"""Data to train and to evaluate on: built from packages or a user's own pins, read with their faults listed."""
