"""What a generation, one pair of models with its settings, may be called in topics, folders, groups and records."""

from __future__ import annotations

import re

from indexer.arguments import refused

FIRST = "g1"
MAX_LENGTH = 40
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def check_name(name: str) -> str:
    """The name, if it may be one: 1 to 40 lower-case letters, digits and dashes, the first no dash.

    It stands in topic names, folder names and group ids, so it holds neither dots nor separators.

    Raises:
        BadArgument: it may not.
    """
    if not isinstance(name, str) or len(name) > MAX_LENGTH or not _NAME.fullmatch(name):
        raise refused("a generation's name", name, f"1 to {MAX_LENGTH} of a-z, 0-9 and -, the first no -")
    return name
