"""Benchmarks. Each module is one, run by `dotstream bench NAME`; an underscore marks shared parts."""
