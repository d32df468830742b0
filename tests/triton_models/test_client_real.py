"""The typed client against a real Triton with the exported models: transports agree, faults have names, it recovers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import numpy.typing as npt
import psutil
import pytest
import stamina
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dotstream.errors import Misconfigured, Retryable, Unavailable
from ops.local.triton import TritonProcess
from tests.support.photographs import photographs, pictures
from tests.support.triton import StartTriton
from triton_models.calls import RetrySettings
from triton_models.client import TritonClient
from triton_models.pictures import decode
from triton_models.pipeline import Vision, VisionSettings
from triton_models.seen import decode_seen, encode_seen
from triton_models.shared_memory import FOLDER, PREFIX
from triton_models.statuses import ModelFailed

T = TypeVar("T")
TRANSPORTS = pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
QUICK = RetrySettings(attempts=2, wait_initial_s=0.01, wait_max_s=0.02, wait_jitter_s=0.01)


def client_of(server: TritonProcess, repository: Path, **options: bool | float | RetrySettings) -> TritonClient:
    labels = repository / "ssd_mobilenet_v2" / "labels.txt"
    return TritonClient(server.address, labels=labels, **options)  # type: ignore[arg-type]


@pytest.fixture
def both(triton_server: TritonProcess, exported_repository: Path) -> Iterator[tuple[TritonClient, TritonClient]]:
    """Clients of one server: one by gRPC, one by shared memory."""
    with (
        client_of(triton_server, exported_repository) as plain,
        client_of(triton_server, exported_repository, shared_memory=True) as shared,
    ):
        yield plain, shared


def same(codes: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> bool:
    """Equal but for features near zero, whose signs depend on what else was in the server's batch."""
    differing = np.bitwise_count(codes ^ expected).sum(axis=1)
    return bool((differing <= 0.01 * 8 * codes.shape[1]).all())


def eventually(call: Callable[[], T]) -> T:
    """The call's result once the server is back; it fails like the call itself after 60 s."""
    for attempt in stamina.retry_context(on=Retryable, attempts=None, timeout=60, wait_initial=0.05, wait_max=0.2):
        with attempt:
            return call()
    raise AssertionError("unreachable")


def test_both_transports_give_the_same_values(both: tuple[TritonClient, TritonClient]) -> None:
    plain, shared = both
    whole, small = pictures(300), pictures(224)
    assert len(whole) > 16
    for count in (1, 16, len(whole)):
        for one, other in zip(plain.detect(whole[:count]), shared.detect(whole[:count]), strict=True):
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.scores, other.scores)
            assert one.labels == other.labels
        np.testing.assert_array_equal(plain.embed(small[:count]), shared.embed(small[:count]))
        np.testing.assert_array_equal(plain.features(small[:count]), shared.features(small[:count]))


def test_codes_are_the_signs_of_the_features(both: tuple[TritonClient, TritonClient]) -> None:
    plain, shared = both
    small = pictures(224)[:8]
    assert plain.bits == 1280
    np.testing.assert_array_equal(plain.embed(small), np.packbits(shared.features(small) > 0, axis=1))


def test_the_canary_and_the_names(both: tuple[TritonClient, TritonClient]) -> None:
    for client in both:
        client.canary()
        assert (client.detector_name, client.embedder_name) == ("ssd_mobilenet_v2@1", "efficientnet_lite0@1")


def test_an_unknown_model_or_version_is_named(triton_server: TritonProcess, exported_repository: Path) -> None:
    labels = exported_repository / "ssd_mobilenet_v2" / "labels.txt"
    with (
        TritonClient(triton_server.address, labels=labels, embedder="resnet") as client,
        pytest.raises(Misconfigured, match="no model 'resnet'"),
    ):
        client.connect()
    with (
        TritonClient(triton_server.address, labels=labels, versions={"efficientnet_lite0": "7"}) as client,
        pytest.raises(Unavailable),
    ):
        client.connect()


@TRANSPORTS
def test_photographs_are_seen(triton_server: TritonProcess, exported_repository: Path, shared_memory: bool) -> None:
    paths = {path.name: path for path in photographs()}
    some = [decode(paths[name].read_bytes()) for name in ("astronaut.png", "chelsea.png", "coffee.png", "street.png")]
    with client_of(triton_server, exported_repository, shared_memory=shared_memory) as client:
        vision = Vision(client, VisionSettings())
        together = vision.see(some)
        assert "Person" in {one.label for one in together[0].objects}
        assert len({seen.code for seen in together}) == len(some)
        for seen in together:
            assert decode_seen(encode_seen(seen), client.bits) == seen
            assert all(len(one.code) * 8 == client.bits for one in seen.objects)
        alone = [vision.see([one])[0] for one in some]
        assert [len(seen.objects) for seen in alone] == [len(seen.objects) for seen in together]


@TRANSPORTS
def test_a_server_that_is_killed_and_started_again(
    own_triton: StartTriton, copied_repository: Path, shared_memory: bool
) -> None:
    server = own_triton(copied_repository)
    small = pictures(224)[:4]
    with client_of(server, copied_repository, shared_memory=shared_memory, retry=QUICK) as client:
        codes = client.embed(small)
        server.kill()
        with pytest.raises(Unavailable):
            client.embed(small)
        own_triton(copied_repository)
        np.testing.assert_array_equal(eventually(lambda: client.embed(small)), codes)
        eventually(client.canary)
    assert not list(FOLDER.glob(f"{PREFIX}{os.getpid()}-*"))


def test_a_model_process_that_died_is_noticed_though_the_server_says_ready(
    own_triton: StartTriton, copied_repository: Path
) -> None:
    server = own_triton(copied_repository)
    with client_of(server, copied_repository, shared_memory=True, retry=QUICK) as client:
        client.canary()
        stubs = [
            child
            for child in psutil.Process(server.pid).children(recursive=True)
            if "efficientnet_lite0" in " ".join(child.cmdline())
        ]
        assert stubs
        for stub in stubs:
            stub.send_signal(signal.SIGKILL)
        psutil.wait_procs(stubs, timeout=10)
        with pytest.raises((ModelFailed, Unavailable)):
            client.canary()
        assert len(client.detect(pictures(300)[:2])) == 2, "the other model works on"


@TRANSPORTS
def test_a_model_that_is_reloaded_under_load(
    own_triton: StartTriton, copied_repository: Path, shared_memory: bool
) -> None:
    server = own_triton(copied_repository, control="explicit")
    small = pictures(224)[:3]
    stop = threading.Event()
    outcomes: list[str] = []

    with client_of(server, copied_repository, shared_memory=shared_memory) as client:
        codes = client.embed(small)

        def load() -> None:
            while not stop.is_set():
                try:
                    outcomes.append("right" if same(client.embed(small), codes) else "wrong")
                except Unavailable:
                    outcomes.append("unavailable")

        with ThreadPoolExecutor(2) as pool:
            workers = [pool.submit(load) for _ in range(2)]
            try:
                _reload(server, "efficientnet_lite0")
            finally:
                stop.set()
            for worker in workers:
                worker.result(60)
        eventually(client.canary)
    assert outcomes.count("right") > 0
    assert "wrong" not in outcomes


def _reload(server: TritonProcess, model: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=model), timeout=60)
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=model), timeout=60)


def test_clients_come_and_go_beside_one_that_works(triton_server: TritonProcess, exported_repository: Path) -> None:
    """Regions are registered and unregistered while others are being read."""
    small = pictures(224)[:6]
    stop = threading.Event()
    with client_of(triton_server, exported_repository, shared_memory=True) as steady:
        codes = steady.embed(small)
        rounds: list[bool] = []

        def come_and_go() -> None:
            while not stop.is_set():
                with client_of(triton_server, exported_repository, shared_memory=True) as client:
                    rounds.append(same(client.embed(small[:1]), codes[:1]))

        with ThreadPoolExecutor(1) as pool:
            guest = pool.submit(come_and_go)
            try:
                while len(rounds) < 8 and not guest.done():
                    assert same(steady.embed(small), codes)
            finally:
                stop.set()
            guest.result(60)
        assert all(rounds)
        steady.canary()
    assert not list(FOLDER.glob(f"{PREFIX}{os.getpid()}-*"))
