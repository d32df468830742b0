"""The one error tree: what may be tried again, what goes to the dead letters, what stops a worker.

    DotstreamError
    ├── Retryable        the same call may succeed later: broker, Triton or disk away, time run out
    │   └── Unavailable  the other side refuses or is gone; a circuit breaker may open
    ├── Poison           this input will never succeed: dead letter with its reason
    └── Fatal            going on would be wrong: the process says why and ends
        └── Misconfigured  a setting, file or version must be changed by a person first

Errors of Kafka, gRPC, RocksDB, decoders and HTTP are translated at one edge each:
producers/kafka.py, triton_models/client.py, indexer/database.py, triton_models/pictures.py, consumers/fetch.py.
"""

from __future__ import annotations

from typing import Self


class DotstreamError(Exception):
    """The root of every error that dotstream raises on purpose."""


class Retryable(DotstreamError):
    """The same call may succeed later."""


class Unavailable(Retryable):
    """The other side refuses or is gone."""


class Poison(DotstreamError):
    """An input that will never succeed; it belongs in the dead letters.

    Args:
        reason: a stable slug in snake_case, the label under which dead letters are counted.
        detail: what was found and what was expected, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def bare(self) -> Self:
        """Itself as a value, without traceback and causes.

        Their frames hold whatever the failed call had in hand, whole pictures among it, and a future that holds the
        poison stands among those frames: a cycle that only the garbage collector ends, long after.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class Fatal(DotstreamError):
    """Going on would be wrong; the worker stops."""


class Misconfigured(Fatal):
    """A setting, file or version must be changed by a person first; the message says which and how."""
