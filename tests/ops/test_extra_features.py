"""Extra features beside the searched code, on a real Triton: from the export to a record and to Related Pins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from consumers.addresses import FetchPolicy
from consumers.fetch import Fetcher
from consumers.metrics import WorkerMetrics
from consumers.records import RecordWriter
from consumers.vision import VisionProcessor
from discovery.related.features import Pair, feature_names, feature_rows, side_of
from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured
from indexer.pictures import PictureStore, ResultCache
from indexer.records_pb2 import ObjectRecord
from ops.models import box_embedder, pipeline_of, triton_client, vision_of
from ops.settings import Settings, load
from tests.consumers.test_vision import event, jpeg, message
from tests.support.photographs import photographs
from tests.support.triton import StartTriton
from triton_models.calls import Unobserved
from triton_models.cards import MODEL_FILE, ModelCard
from triton_models.client import TritonClient
from triton_models.embedders.export import export_embedder
from triton_models.embedders.weights import Loaded
from triton_models.embedders.weights import load as load_network
from triton_models.fetch import Weights
from triton_models.pictures import decode, resize
from triton_models.versions import CONFIG_FILE, add_version

CLASSES = "pins/codes_fc1000"
SEARCHED, CLASS, OTHER = "pins@1/codes", "pins@1/codes_fc1000", "other@1/codes"


@pytest.fixture(scope="module")
def network(weights: Weights) -> Loaded:
    return load_network("efficientnet_lite0", "default", cache=weights.embedder.parent.parent)


@pytest.fixture(scope="module")
def exported(exported_repository: Path, network: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged models, the embedder with its classes beside it as `pins`, and the embedder again as `other`."""
    repository = Path(shutil.copytree(exported_repository, tmp_path_factory.mktemp("extra") / "repository"))
    export_embedder("efficientnet_lite0", network, repository, served_as="pins", extra=["fc1000"])
    packaged = repository / "efficientnet_lite0"
    config = (packaged / CONFIG_FILE).read_text().replace("efficientnet_lite0", "other")
    card = ModelCard("other", 0, "", "r", "s", "", "Apache-2.0")
    add_version(repository, (packaged / "1" / MODEL_FILE).read_bytes(), card, {CONFIG_FILE: config})
    return repository


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(exported, tmp_path / "repository"))


def settings_with(repository: Path, data: Path, address: str, *extra: str) -> Settings:
    given = {"data": data, "triton.address": address, "triton.repository": repository, "triton.embedder": "pins"}
    return load(None, {**given, "triton.extra_features": ",".join(extra)}).settings


def records(settings: Settings, client: TritonClient, *pictures: Path) -> list[ObjectRecord]:
    """What the vision worker makes of photographs, each met twice: looked at, and kept."""
    pipeline, clock = pipeline_of(settings), SystemClock()
    with ThreadPoolExecutor(2) as pool, Fetcher(FetchPolicy(), clock=clock) as fetcher:
        processor = VisionProcessor(
            fetcher=fetcher,
            decode=decode,
            vision=vision_of(settings, client),
            pictures=PictureStore((settings.data / "pictures").as_uri()),
            cache=ResultCache((settings.data / "results").as_uri()),
            fingerprint=pipeline.fingerprint,
            bits=pipeline.bits,
            extra_bits=pipeline.extra_bits,
            records=RecordWriter(
                topic="objects.g1",
                generation="g1",
                detector=pipeline.detector,
                embedder=pipeline.embedder,
                features=pipeline.features,
                source="test",
                clock=clock,
            ),
            prepare=pool,
            clock=clock,
            metrics=WorkerMetrics("vision", CollectorRegistry()),
        )
        events = [message(event(path.stem, jpeg(path, 320))) for path in pictures]
        first, again = ([_record(outcome.outputs[0].value) for outcome in processor.process(events)] for _ in range(2))
    assert [list(one.codes) for one in first] == [list(one.codes) for one in again]
    assert [list(one.objects) for one in first] == [list(one.objects) for one in again]
    return first


def _record(value: bytes | None) -> ObjectRecord:
    return ObjectRecord.FromString(value or b"")


@pytest.fixture
def client_and_settings(
    repository: Path, own_triton: StartTriton, tmp_path: Path
) -> Iterator[tuple[TritonClient, Settings]]:
    server = own_triton(repository)
    settings = settings_with(repository, tmp_path / "data", server.address, CLASSES, "other")
    with triton_client(settings, Unobserved()) as client:
        yield client, settings


def test_records_carry_the_extra_codes_and_related_pins_compares_by_them(
    client_and_settings: tuple[TritonClient, Settings], network: Loaded
) -> None:
    client, settings = client_and_settings
    client.canary()
    cat, cup = (path for stem in ("chelsea", "coffee") for path in photographs() if path.stem == stem)
    one, other = records(settings, client, cat, cup)
    for record in (one, other):
        for codes in (record.codes, *(item.codes for item in record.objects)):
            assert [code.feature for code in codes] == [SEARCHED, CLASS, OTHER]
            assert [8 * len(code.bits) for code in codes] == [1280, 1000, 1280]
            assert _differing(codes[0].bits, codes[2].bits) <= 13  # the same weights, joined with other rows
    assert one.objects

    pixels = resize(decode(jpeg(cat, 320)).pixels, network.side)
    with torch.inference_mode():
        scores = network.network.features(torch.from_numpy(pixels[None].copy()), ["fc1000"])["fc1000"].numpy()[0]
    assert _differing(np.packbits(scores > 0).tobytes(), one.codes[1].bits) <= 10

    row = _features(one, other)
    assert row["class"] == pytest.approx(1 - _differing(one.codes[1].bits, other.codes[1].bits) / 1000)
    assert (row["class_missing"], row["visual_missing"]) == (0, 0)
    del other.codes[1:]
    assert (_features(one, other)["class"], _features(one, other)["class_missing"]) == (0, 1)

    pictures = PictureStore((settings.data / "pictures").as_uri())
    box = one.objects[0].box
    (crop,) = box_embedder(settings, client, pictures)(one.image_ref, [(box.x0, box.y0, box.x1, box.y1)])
    for code, kept in zip(crop, one.objects[0].codes, strict=True):
        assert _differing(code, kept.bits) <= 13


def test_extra_features_are_part_of_the_generation_and_are_checked(repository: Path, tmp_path: Path) -> None:
    def pipeline(*extra: str) -> tuple[bytes, Sequence[str]]:
        made = pipeline_of(settings_with(repository, tmp_path, "127.0.0.1:1", *extra))
        return made.fingerprint, made.features

    plain, with_class, both, turned = (
        pipeline(),
        pipeline(CLASSES),
        pipeline(CLASSES, "other"),
        pipeline("other", CLASSES),
    )
    assert len({made[0] for made in (plain, with_class, both, turned)}) == 4
    assert both[1] == (SEARCHED, CLASS, OTHER)
    for wrong, said in (
        ("pins/codes_fc8", "no output `codes_fc8`"),
        ("nowhere", "no exported model"),
        ("pins@x", "NAME@VERSION"),
    ):
        with pytest.raises(Misconfigured, match=said):
            pipeline(wrong)
    shutil.copytree(repository / "pins" / "1", repository / "pins" / "2")
    card = repository / "pins" / "2" / "card.json"
    card.write_text(card.read_text().replace('"version": 1', '"version": 2'))
    for wrong, said in (("pins@2/codes_fc1000", "versions 1 and 2"), ("pins", "named twice, or is the searched one")):
        with pytest.raises(Misconfigured, match=said):
            triton_client(settings_with(repository, tmp_path, "127.0.0.1:1", wrong), Unobserved())


def _features(query: ObjectRecord, candidate: ObjectRecord) -> dict[str, float]:
    rows = feature_rows(side_of(query), [Pair(side_of(candidate))], lambda names: dict.fromkeys(names, 1.0), ())
    return dict(zip(feature_names(()), rows[0].tolist(), strict=True))


def _differing(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum())
