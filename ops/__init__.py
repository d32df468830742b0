"""What runs it: command line, settings, topics, the local stack, metrics, benchmarks."""
