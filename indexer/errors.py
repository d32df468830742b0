"""What can be wrong with the index, each with its name, under the tree of dotstream/errors.py.

    Retryable
    ├── LockHeld        another process writes this folder, or reads under this reader's name
    ├── LeaseExpired    a reader was not refreshed in time and may know less than was promised about deletes
    ├── DiskFull        no space left; the state on disk is that of the last commit
    ├── SearchTimeout   a query ran into its limit
    ├── Closed          the shard, reader or database was closed; another one, opened anew, may be asked
    └── NotInView       a pin changed since the version at hand; a newer version has it
    Fatal
    ├── BadArgument     a call was made with what it cannot take; a ValueError too
    ├── NeedsRebuild    the state belongs to another log: replay into a new folder
    ├── Superseded      another writer's folder took this one's place
    ├── Damaged         a checksum or an invariant of a file does not hold; nothing was deleted
    └── Misconfigured
        └── ForeignFormat  a folder of another format, version, generation, partition or code width

Nothing in this package deletes a file because of one of them.
"""

from __future__ import annotations

from dotstream.errors import Fatal, Misconfigured, Retryable


class LockHeld(Retryable):
    """Another process holds this folder or this reader's name."""


class LeaseExpired(Retryable):
    """The reader's lease ran out; `refresh()` renews it."""


class DiskFull(Retryable):
    """No space is left for the index; free some and try again."""


class SearchTimeout(Retryable):
    """The query's time limit passed before every segment was searched."""


class Closed(Retryable):
    """What was asked was closed; open it again."""

    def __init__(self) -> None:
        super().__init__("the index was closed; open it again")


class NotInView(Retryable):
    """A row names a segment that the version at hand does not have."""


class BadArgument(Fatal, ValueError):
    """An argument is of the wrong type, width or range; the message says what to pass. Nothing was done."""


class NeedsRebuild(Fatal):
    """The local state belongs to another log than the one at hand; replay it into a new folder."""


class Superseded(Fatal):
    """Another writer's folder was put in place of this one; this writer must not answer any more."""


class Damaged(Fatal):
    """A checksum or an invariant of the index does not hold. The files are left as they are."""


class ForeignFormat(Misconfigured):
    """The folder or file was written for another format, version, generation, partition or width."""
