"""The ground that every folder stands on: the error tree and the clock. It imports nothing of the project."""

from importlib.metadata import version

__version__ = version("dotstream")
