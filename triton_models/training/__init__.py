"""The loop that trains a network: settings, mixed precision, logs, checkpoints, and going on from them."""
