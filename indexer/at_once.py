"""An executor without threads, for code that may also be given a pool: what is submitted has run already."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class AtOnce(Executor):
    """Runs work on the thread that submits it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The work's future, done already."""
        ran: Future[Any] = Future()
        try:
            ran.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  whoever asks for the result raises it
            ran.set_exception(error)
        return ran


AT_ONCE = AtOnce()
