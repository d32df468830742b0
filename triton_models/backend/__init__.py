"""Backends that run inside a Triton server, in its own Python environment: never imported by dotstream's code."""
