"""A part behind the API that hangs holds up what has to wait for it, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.discovery.stage import Stage, patch
from tests.discovery.waiting import until

MANY = 12
"""More than any room has threads."""
BOX = [0.1, 0.1, 0.8, 0.8]
Ask = Callable[[httpx.Client], httpx.Response]

KNOWN: Ask = lambda api: api.post("/search/objects", json={"pin_id": "a", "object_index": 0})  # noqa: E731
WHOLE: Ask = lambda api: api.post("/search/flashlight", json={"pin_id": "a"})  # noqa: E731
PICTURE: Ask = lambda api: api.get("/pins/a/picture")  # noqa: E731
THUMBNAIL: Ask = lambda api: api.get("/pins/a/picture?width=160")  # noqa: E731
LINEAGE: Ask = lambda api: api.get("/pins/a/lineage")  # noqa: E731
PIN: Ask = lambda api: api.get("/pins/a")  # noqa: E731
RELATED: Ask = lambda api: api.get("/pins/a/related")  # noqa: E731
CROP: Ask = lambda api: api.post("/search/objects", json={"pin_id": "a", "box": BOX})  # noqa: E731
UPLOAD: Ask = lambda api: api.post("/search/flashlight", files={"image": patch("red")})  # noqa: E731
LENS: Ask = lambda api: api.post("/lens", files={"image": patch("red")})  # noqa: E731


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Open at the end, so that no thread is left waiting."""
    gate = threading.Event()
    yield gate
    gate.set()


HANGS = {
    "triton": ("look", (CROP, UPLOAD, LENS), (KNOWN, WHOLE, PICTURE, THUMBNAIL, LINEAGE, PIN, RELATED)),
    "pictures": ("picture", (PICTURE, THUMBNAIL), (KNOWN, WHOLE, LINEAGE, PIN, RELATED, UPLOAD, LENS)),
    "broker": ("lineage", (LINEAGE,), (KNOWN, WHOLE, PICTURE, THUMBNAIL, PIN, RELATED, CROP, UPLOAD, LENS)),
}


@pytest.mark.parametrize("part", HANGS)
def test_what_does_without_a_hanging_part_does_not_wait_for_it(
    api: httpx.Client, stage: Stage, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    room, waiting, free = HANGS[part]
    stage.pin("a", patch("red"))
    stage.pin("b", patch("orange"))
    hanging = {
        "triton": (stage.models, ("detect", "embed")),
        "pictures": (stage.pictures, ("get",)),
        "broker": (stage.letters, ("find",)),
    }
    owner, names = hanging[part]
    for name in names:
        monkeypatch.setattr(owner, name, after(gate, getattr(owner, name)))
    with ThreadPoolExecutor(MANY) as pool:
        asked = [pool.submit(waiting[n % len(waiting)], api) for n in range(MANY)]
        try:
            until(lambda: f'dotstream_api_work_held{{room="{room}"}} {MANY}.0' in api.get("/metrics").text)
            assert [ask(api).status_code for ask in free] == [200] * len(free)
            assert not any(one.done() for one in asked)
        finally:
            gate.set()
        assert [one.result().status_code for one in asked] == [200] * MANY
    assert f'dotstream_api_work_held{{room="{room}"}} 0.0' in api.get("/metrics").text


def after(gate: threading.Event, work: Callable[..., object]) -> Callable[..., object]:
    """The work, once the gate is open."""

    def waited(*arguments: object) -> object:
        gate.wait()
        return work(*arguments)

    return waited
