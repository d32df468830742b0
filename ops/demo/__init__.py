"""The demonstration: real photographs out of packages, streamed through a local stack, their dots watched live."""
