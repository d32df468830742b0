"""What the system answers about a pin, asked in every way that it can be asked."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from discovery.client import Client
from discovery.errors import Problem
from dotstream.clock import SystemClock
from indexer.reader import IndexReader
from indexer.records_pb2 import ObjectRecord
from tests.faults.oracle import GENERATION, PARTITIONS
from tests.faults.stack import RunningStack

LIMIT_S = 60.0
CROWD = 12
"""More than the API has threads for questions to Triton."""
EVERY_RESULT = 10_000
WHOLE = (0.0, 0.0, 1.0, 1.0)
GONE = {"deleted-pin", "unknown-pin"}


def refusals(api: Client, pin: str) -> set[str]:
    """Why each question about a pin is refused, as the API's kinds of problems; "answered" for one that is not."""
    found = set()
    for ask in (api.pin, api.dots, api.search_pin):
        try:
            ask(pin)
        except Problem as problem:
            found.add(problem.slug)
        else:
            found.add("answered")
    return found


def pins_listed(stack: RunningStack) -> set[str]:
    """Every pin of the API's list, page after page."""
    found: set[str] = set()
    before: str | None = None
    with asked(stack) as api:
        while True:
            page = api.pins(200, before)
            found |= {card.pin.pin_id for card in page.pins}
            before = page.next
            if before is None:
                return found


def pins_searched(stack: RunningStack, like: Sequence[ObjectRecord]) -> set[str]:
    """Every pin that exact searches by these records' codes return, asked of the index as another process."""
    reader = IndexReader(
        stack.data / "index" / GENERATION, PARTITIONS, clock=SystemClock(), lease_s=30.0, name=uuid.uuid4().hex[:8]
    )
    try:
        reader.refresh()
        found: set[str] = set()
        for record in like:
            for code in (record.codes[0].bits, *(each.codes[0].bits for each in record.objects)):
                found |= {hit.pin_id for hit in reader.search(code, EVERY_RESULT).hits}
        return found
    finally:
        reader.close()


def assert_in_no_answer(stack: RunningStack, pins: Sequence[str], picture: bytes) -> None:
    """The pins are nowhere: not by name, not with dots, not in the list, not in a search by this picture of theirs."""
    with asked(stack) as api:
        for pin in pins:
            assert refusals(api, pin) <= GONE, f"{pin}: {refusals(api, pin)}"
        for box in (None, WHOLE):
            answer = api.search_picture(picture, box=box, k=100)
            assert not set(pins) & {hit.pin_id for hit in answer.results}
    assert not set(pins) & pins_listed(stack)


def assert_answers_without_triton(stack: RunningStack) -> None:
    """While Triton hangs: what needs it is refused by name, and what does not is answered beside that."""
    with asked(stack) as api:
        pin = next(card.pin for card in api.pins(200).pins if card.pin.objects)

        def by_box(n: int) -> str:
            try:
                api.search_pin(pin.pin_id, box=(0.0, 0.0, 0.5 + n / 100, 0.5))
            except Problem as problem:
                return problem.slug
            return "answered"

        with ThreadPoolExecutor(CROWD) as pool:
            waiting = [pool.submit(by_box, n) for n in range(CROWD)]
            for item in pin.objects:
                assert not api.search_pin(pin.pin_id, object_index=item.index).query.inference
            assert api.pin(pin.pin_id).pin_id == pin.pin_id
            assert {one.result() for one in waiting} <= {"too-slow", "busy", "unavailable"}


def asked(stack: RunningStack) -> Client:
    return Client(stack.facts()["api"], limit_s=LIMIT_S)
