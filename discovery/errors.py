"""What can be wrong with a question, by the stable slug under which the API and the commands say so.

Errors of the parts below stay what they are (dotstream/errors.py); discovery/problems.py maps both to HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping

from dotstream.errors import DotstreamError


class Problem(DotstreamError):
    """A question that cannot be answered as it was asked.

    Args:
        slug: one of `discovery.problems.KINDS`.
        detail: one line for the person who asked.
        more: further members of the problem document.
        retry_after_s: when the same question may be answered.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        more: Mapping[str, object] | None = None,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{slug}: {detail}")
        self.slug = slug
        self.detail = detail
        self.more = dict(more or {})
        self.retry_after_s = retry_after_s


def unknown_pin(pin_id: str) -> Problem:
    """For a pin that neither index nor dots have seen."""
    return Problem("unknown-pin", f"no pin {_short(pin_id)} has been seen", {"pin_id": pin_id[:200]})


def deleted_pin(pin_id: str) -> Problem:
    """For a pin whose newest record is a delete."""
    return Problem("deleted-pin", f"the pin {_short(pin_id)} was deleted", {"pin_id": pin_id[:200]})


def _short(pin_id: str) -> str:
    return repr(pin_id if len(pin_id) <= 80 else pin_id[:79] + "…")
