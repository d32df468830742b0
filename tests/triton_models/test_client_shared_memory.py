"""Shared memory of the client: reused, bounded, found again after a restart, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from dotstream.errors import Misconfigured, Unavailable
from tests.support.fake_triton import LABELS, FakeTriton, answer, hung, status
from triton_models.calls import RetrySettings
from triton_models.client import TritonClient
from triton_models.shared_memory import FOLDER, PREFIX, Region, RegionPool, sweep
from triton_models.statuses import Closed, ModelFailed, TimedOut

ONCE = RetrySettings(attempts=1)


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    server = FakeTriton()
    yield server
    server.stop()


def connected(fake: FakeTriton, **options: int) -> TritonClient:
    client = TritonClient(fake.address, labels=LABELS, shared_memory=True, **options)  # type: ignore[arg-type]
    client.connect()
    return client


def own_regions(pid: int | None = None) -> set[str]:
    return {path.name for path in FOLDER.glob(f"{PREFIX}{pid or os.getpid()}-*")}


def pictures(count: int = 3) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def is_right(client: TritonClient) -> None:
    np.testing.assert_array_equal(client.embed(pictures()), answer("efficientnet_lite0", pictures())["codes"])


def test_one_region_serves_many_calls_of_both_models_and_goes_with_the_client(fake: FakeTriton) -> None:
    before = own_regions()
    client = connected(fake)
    for _ in range(5):
        is_right(client)
        client.detect(np.zeros((9, 300, 300, 3), np.uint8))
    made = own_regions() - before
    assert len(made) == 1
    assert set(fake.regions) == made
    assert fake.calls["register"] == 1
    size = (FOLDER / made.pop()).stat().st_size
    assert size == max(4 * 300 * 300 * 3, 5 * 224 * 224 * 3)
    client.close()
    assert own_regions() == before
    assert fake.regions == {}


def test_calls_at_once_get_regions_of_their_own_up_to_the_limit(fake: FakeTriton) -> None:
    before = own_regions()
    with connected(fake, regions=3) as client, ThreadPoolExecutor(8) as pool:
        fake.fail(hung)
        calls = [pool.submit(client.embed, pictures()) for _ in range(8)]
        for _ in range(3):
            assert fake.hanging.acquire(timeout=30)
        assert len(own_regions() - before) == 3
        assert not fake.hanging.acquire(timeout=0.2), "a fourth call went out without a region"
        fake.heal()
        expected = answer("efficientnet_lite0", pictures())["codes"]
        assert all((call.result(30) == expected).all() for call in calls)
        assert len(own_regions() - before) == 3


def test_a_restarted_server_is_told_of_the_region_again(fake: FakeTriton) -> None:
    with connected(fake) as client:
        is_right(client)
        fake.regions.clear()  # as in a new process behind the same address
        is_right(client)
        assert len(fake.regions) == 1
        assert fake.calls["register"] == 2


def test_a_region_is_used_again_after_a_failure_without_a_second_registration(fake: FakeTriton) -> None:
    with connected(fake) as client:
        fake.fail(status(grpc.StatusCode.UNAVAILABLE), times=2)
        is_right(client)
        assert fake.calls["register"] == 1


def test_a_server_elsewhere_is_misconfigured_and_no_call_goes_by_grpc(fake: FakeTriton) -> None:
    fake.sees_shared_memory = False
    before = own_regions()
    with (
        TritonClient(fake.address, labels=LABELS, shared_memory=True) as client,
        pytest.raises(Misconfigured, match="turn shared memory off"),
    ):
        client.embed(pictures())
    assert fake.batches == []
    assert own_regions() == before


def test_a_response_cache_is_refused(fake: FakeTriton) -> None:
    fake.models["efficientnet_lite0"].response_cache = True
    with pytest.raises(Misconfigured, match="response_cache"):
        connected(fake)
    with TritonClient(fake.address, labels=LABELS) as client:
        is_right(client)


def test_memory_that_cannot_be_had_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No space left"):
        Region(FOLDER, f"{PREFIX}test-{os.getpid()}-large", 1 << 50)
    assert not list(FOLDER.glob(f"{PREFIX}test-*"))


def test_pools_that_open_while_others_sweep_all_get_their_region(tmp_path: Path) -> None:
    stop = threading.Event()
    server = _NoServer()

    def keep_sweeping() -> None:
        while not stop.is_set():
            sweep(server, tmp_path)

    with ThreadPoolExecutor(2) as threads:
        sweepers = [threads.submit(keep_sweeping) for _ in range(2)]
        try:
            for _ in range(200):
                pool = RegionPool(server, size=4096, limit=1, folder=tmp_path)
                with pool.lend(1) as region:
                    assert (tmp_path / region.name).exists()
                pool.close()
        finally:
            stop.set()
        assert all(sweeper.result(10) is None for sweeper in sweepers)


def test_a_closed_pool_ends_those_who_wait() -> None:
    server = _NoServer()
    pool = RegionPool(server, size=4096, limit=1)
    ended: list[BaseException] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        try:
            with pool.lend(60):
                pass
        except Closed as error:
            ended.append(error)

    with pool.lend(1):
        with pytest.raises(Unavailable, match="all 1 shared-memory regions"), pool.lend(0.01):
            pass
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(10)
        pool.close()
        thread.join(10)
    assert len(ended) == 1
    assert not [name for name in own_regions() if name in server.mapped]


class _NoServer:
    """A server that maps whatever it is told."""

    address = "nowhere"

    def __init__(self) -> None:
        self.mapped: dict[str, str] = {}
        self.in_use: set[str] = set()

    def regions(self) -> dict[str, str]:
        return dict(self.mapped)

    def register_region(self, name: str, key: str, size: int) -> None:
        self.mapped[name] = key

    def unregister_region(self, name: str) -> None:
        if name in self.in_use:
            raise ModelFailed(f"Cannot unregister shared memory region '{name}', it is currently in use.")
        self.mapped.pop(name, None)


CHILD = """
import sys, time
from tests.support.fake_triton import LABELS
from triton_models.client import TritonClient
client = TritonClient(sys.argv[1], labels=LABELS, shared_memory=True)
client.connect()
print("connected", flush=True)
time.sleep(120)
"""


def test_regions_of_a_killed_process_are_swept_and_those_of_a_living_one_are_not(fake: FakeTriton) -> None:
    command = [sys.executable, "-c", CHILD, fake.address]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "connected\n"
            (left,) = own_regions(child.pid)
            with connected(fake) as client:
                assert own_regions(child.pid) == {left}, "its owner lives"
                child.send_signal(signal.SIGKILL)
                child.wait(10)
                (mine,) = set(fake.regions) - {left}
                assert own_regions(child.pid) == {left}
                with connected(fake):
                    assert own_regions(child.pid) == set()
                    assert left not in fake.regions
                    assert mine in fake.regions
                is_right(client)
        finally:
            child.kill()


def test_sweep_leaves_what_is_not_ours(tmp_path: Path) -> None:
    server = _NoServer()
    server.mapped = {"other": "/other", f"{PREFIX}1-gone": f"/{PREFIX}1-gone"}
    (tmp_path / "dotstream-something-else").write_bytes(b"1")
    (tmp_path / f"{PREFIX}1-left").write_bytes(b"1")
    assert sweep(server, tmp_path) == [f"{PREFIX}1-left"]
    assert {path.name for path in tmp_path.iterdir()} == {"dotstream-something-else"}
    assert set(server.mapped) == {"other"}


def test_what_a_call_still_uses_is_left_to_the_next_sweep(tmp_path: Path) -> None:
    server = _NoServer()
    used, gone = f"{PREFIX}1-used", f"{PREFIX}2-gone"
    server.mapped = {used: f"/{used}", gone: f"/{gone}"}
    server.in_use = {used}
    sweep(server, tmp_path)
    assert set(server.mapped) == {used}
    server.in_use.clear()
    sweep(server, tmp_path)
    assert server.mapped == {}


def test_a_late_reader_of_a_region_changes_no_answer(fake: FakeTriton) -> None:
    """A timed-out call reads the next batch's bytes; its answer goes to nobody."""
    with TritonClient(fake.address, labels=LABELS, shared_memory=True, deadline_s=0.3, retry=ONCE) as client:
        client.connect()
        fake.fail(hung, times=1)
        with pytest.raises(TimedOut):
            client.embed(pictures())
        fake.heal()
        is_right(client)
