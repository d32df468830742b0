"""What works: the runtime that all stream workers share, and the workers themselves."""
