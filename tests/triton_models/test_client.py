"""The typed client against the fake server: what it sends, what it returns, what it refuses to work with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import stamina

from dotstream.errors import Fatal, Misconfigured, Unavailable
from tests.support.fake_triton import CODE_BYTES, FEATURES, LABELS, FakeModel, FakeTriton, answer, two_models
from triton_models.client import TritonClient, read_labels

MakeClient = Callable[..., TritonClient]


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    server = FakeTriton()
    yield server
    server.stop()


@pytest.fixture
def client(fake: FakeTriton) -> Iterator[TritonClient]:
    with TritonClient(fake.address, labels=LABELS) as made:
        yield made


def images(count: int, size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_detections_are_the_servers_without_the_padding(fake: FakeTriton, client: TritonClient) -> None:
    batch = images(6, 300)
    expected = answer("ssd_mobilenet_v2", batch)
    seen = client.detect(batch)
    assert len(seen) == 6
    for row, one in enumerate(seen):
        count = int((expected["labels"][row] >= 0).sum())
        assert 1 <= count < expected["labels"].shape[1]
        np.testing.assert_array_equal(one.boxes, expected["boxes"][row, :count])
        np.testing.assert_array_equal(one.scores, expected["scores"][row, :count])
        assert one.labels == [LABELS[index] for index in expected["labels"][row, :count]]
        assert one.boxes.dtype == one.scores.dtype == np.float32


def test_codes_and_features_are_the_servers(client: TritonClient) -> None:
    batch = images(7, 224)
    expected = answer("efficientnet_lite0", batch)
    np.testing.assert_array_equal(client.embed(batch), expected["codes"])
    np.testing.assert_array_equal(client.features(batch), expected["features"])
    assert client.embed(batch).dtype == np.uint8
    assert client.features(batch).dtype == np.float32


@pytest.mark.parametrize("count", [1, 4, 5, 8, 11])
def test_batches_are_split_by_what_the_model_takes(fake: FakeTriton, client: TritonClient, count: int) -> None:
    assert len(client.detect(images(count, 300))) == count
    assert client.embed(images(count, 224)).shape == (count, CODE_BYTES)
    for model in ("ssd_mobilenet_v2", "efficientnet_lite0"):
        sent = [rows for name, rows in fake.batches if name == model]
        most = fake.models[model].max_batch
        assert sum(sent) == count
        assert sent == [most] * (count // most) + [count % most] * bool(count % most)


def test_nothing_is_sent_for_no_rows(fake: FakeTriton, client: TritonClient) -> None:
    assert client.detect(images(0, 300)) == []
    assert client.embed(images(0, 224)).shape == (0, CODE_BYTES)
    assert client.features(images(0, 224)).shape == (0, FEATURES)
    assert fake.batches == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 224, 224, 3), np.uint8),
        np.zeros((300, 300, 3), np.uint8),
        np.zeros((1, 3, 300, 300), np.uint8),
        np.zeros((1, 300, 300, 3), np.float32),
    ],
)
def test_a_wrong_array_is_a_defect_of_the_caller(client: TritonClient, wrong: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(Fatal):
        client.detect(wrong)


def test_arrays_that_are_not_contiguous_are_sent_as_they_read(client: TritonClient) -> None:
    batch = images(3, 224)[:, ::-1, ::-1]
    np.testing.assert_array_equal(
        client.embed(batch), answer("efficientnet_lite0", np.ascontiguousarray(batch))["codes"]
    )


def test_names_and_bits_are_what_is_served(fake: FakeTriton, client: TritonClient) -> None:
    fake.models["efficientnet_lite0"].versions = ["9", "10", "2"]
    assert client.detector_name == "ssd_mobilenet_v2@1"
    assert client.embedder_name == "efficientnet_lite0@10"
    assert client.bits == CODE_BYTES * 8


def test_versions_can_be_pinned_and_stay_pinned(fake: FakeTriton) -> None:
    fake.models["efficientnet_lite0"].versions = ["1", "2"]
    with TritonClient(fake.address, labels=LABELS, versions={"efficientnet_lite0": "1"}) as client:
        assert client.embedder_name == "efficientnet_lite0@1"
        client.embed(images(1, 224))
        fake.models["efficientnet_lite0"].versions = ["2"]
        with pytest.raises(Unavailable):
            client.embed(images(1, 224))


def test_making_a_client_touches_no_network() -> None:
    TritonClient("127.0.0.1:1", labels=LABELS).close()


def test_a_server_that_is_away_or_loading_is_unavailable_until_it_is_there(fake: FakeTriton) -> None:
    with TritonClient(fake.address, labels=LABELS) as client:
        fake.stop()
        with pytest.raises(Unavailable):
            client.connect()
        fake.ready, models, fake.models = False, fake.models, {}
        fake.start()
        with pytest.raises(Unavailable):
            _until(client.connect, "is not found")
        fake.ready, fake.models = True, models
        client.connect()
        assert client.bits == CODE_BYTES * 8
        client.canary()


def _until(connect: Callable[[], None], words: str) -> None:
    """The channel may still report the old outage: again until the error is the server's own."""

    def other(error: Exception) -> bool:
        return isinstance(error, Unavailable) and words not in str(error)

    for attempt in stamina.retry_context(on=other, attempts=None, timeout=20, wait_initial=0.01, wait_max=0.05):
        with attempt:
            connect()


def test_a_model_that_the_repository_does_not_have_is_misconfigured(fake: FakeTriton) -> None:
    with (
        TritonClient(fake.address, labels=LABELS, detector="yolo") as client,
        pytest.raises(Misconfigured, match=r"no model 'yolo'.*it has efficientnet_lite0, ssd_mobilenet_v2"),
    ):
        client.connect()


def _narrow(models: dict[str, FakeModel]) -> None:
    models["ssd_mobilenet_v2"].outputs["scores"] = ("FP32", [5])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda models: models["ssd_mobilenet_v2"].outputs.pop("labels"),
        lambda models: models["ssd_mobilenet_v2"].outputs.update(labels=("INT64", [6])),
        lambda models: models["ssd_mobilenet_v2"].outputs.update(boxes=("FP32", [6, 5])),
        lambda models: models["ssd_mobilenet_v2"].outputs.update(boxes=("FP32", [-1, 4])),
        lambda models: models["efficientnet_lite0"].outputs.update(codes=("UINT8", [2, 10])),
        lambda models: setattr(models["efficientnet_lite0"], "max_batch", 0),
        lambda models: setattr(models["efficientnet_lite0"], "size", 0),
        _narrow,
    ],
)
def test_a_model_that_does_not_fit_is_misconfigured(spoil: Callable[[dict[str, FakeModel]], object]) -> None:
    models = two_models()
    spoil(models)
    fake = FakeTriton(models)
    try:
        with TritonClient(fake.address, labels=LABELS) as client, pytest.raises(Misconfigured):
            client.connect()
    finally:
        fake.stop()


def test_labels_come_from_a_file(fake: FakeTriton, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"{label}\n" for label in LABELS))
    with TritonClient(fake.address, labels=file) as client:
        assert set(client.detect(images(1, 300))[0].labels) <= set(LABELS)
    for text in ("", "Person\n\nDesk\n"):
        file.write_text(text)
        with pytest.raises(Misconfigured):
            read_labels(file)
    with pytest.raises(Misconfigured):
        read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize("shared_memory", [False, True])
def test_threads_get_their_own_answers(fake: FakeTriton, shared_memory: bool) -> None:
    with TritonClient(fake.address, labels=LABELS, shared_memory=shared_memory, regions=2) as client:

        def work(seed: int) -> bool:
            batch = images(3, 224, seed)
            codes = client.embed(batch)
            return bool((codes == answer("efficientnet_lite0", batch)["codes"]).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(60)))


def test_credentials_are_used(fake: FakeTriton) -> None:
    with (
        TritonClient(fake.address, labels=LABELS, credentials=grpc.ssl_channel_credentials()) as client,
        pytest.raises(Unavailable),  # the fake speaks no TLS
    ):
        client.connect()


def test_connecting_happens_once(fake: FakeTriton, client: TritonClient) -> None:
    start = threading.Barrier(4)

    def connect(_: int) -> str:
        start.wait(10)
        return client.embedder_name

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(connect, range(4))) == {"efficientnet_lite0@1"}
    assert fake.calls["metadata"] == 4  # metadata and configuration of two models
