"""Evaluations of what the running system answers: each fills a real index by the stream's own code and asks it."""
