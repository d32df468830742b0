"""One call at a time on a thread of its own; what it raised is raised to the thread that asks for the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs calls beside the thread that begins them, which is one.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def wait(self) -> None:
        """Returns when no call is running."""
        if self._thread is not None:
            self._thread.join()

    def begin(self, call: Callable[[], None]) -> bool:
        """Starts a call; False when one is running still.

        Raises:
            BaseException: what the last call raised, once; nothing is started.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        self._thread = threading.Thread(target=self._run, args=(call,), name=self._name, daemon=True)
        self._thread.start()
        return True

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  raised by the next `begin`
            self._error = error
