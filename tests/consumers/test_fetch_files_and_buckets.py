"""File URLs stay below their roots and object URLs in their buckets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from consumers.addresses import FetchPolicy
from consumers.buckets import open_buckets, read_object
from consumers.fetch import Fetcher
from consumers.files import read_file
from dotstream.clock import SystemClock
from dotstream.errors import Misconfigured, Poison, Retryable
from producers.events_pb2 import PinEvent
from tests.consumers.picture_server import PICTURE, PictureServer

MAX = 20_000_000


def reason(call: Callable[[], bytes]) -> str:
    with pytest.raises(Poison) as caught:
        call()
    return caught.value.reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "a picture.jpg").write_bytes(PICTURE)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return folder


def test_files_below_a_root_are_read(root: Path) -> None:
    url = (root / "below" / "a picture.jpg").as_uri()
    assert "%20" in url
    assert read_file(url, (Path("/nonexistent"), root), MAX) == PICTURE
    assert read_file(url.replace("file://", "file://localhost"), (root,), MAX) == PICTURE
    with Fetcher(FetchPolicy(file_roots=(root,)), clock=SystemClock()) as fetcher:
        assert fetcher.fetch(PinEvent.Image(url=url)) == PICTURE
    with Fetcher(FetchPolicy(), clock=SystemClock()) as closed:
        assert reason(lambda: closed.fetch(PinEvent.Image(url=url))) == "fetch_scheme"


def test_links_within_the_root_are_followed_and_out_of_it_are_not(root: Path) -> None:
    (root / "inner.jpg").symlink_to(root / "below" / "a picture.jpg")
    (root / "outer.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "up").symlink_to(root.parent)
    (root / "loop").symlink_to(root / "loop")
    linked = root.parent / "linked"
    linked.symlink_to(root)
    assert read_file((root / "inner.jpg").as_uri(), (root,), MAX) == PICTURE
    assert read_file((root / "inner.jpg").as_uri(), (linked,), MAX) == PICTURE
    assert read_file((linked / "inner.jpg").as_uri(), (root,), MAX) == PICTURE
    assert reason(lambda: read_file((root / "outer.jpg").as_uri(), (root,), MAX)) == "fetch_file_root"
    assert reason(lambda: read_file((root / "up" / "secret.jpg").as_uri(), (root,), MAX)) == "fetch_file_root"
    assert reason(lambda: read_file((root / "loop").as_uri(), (root,), MAX)) == "fetch_not_found"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file://{root}/../secret.jpg", "fetch_file_root"),
        ("file://{root}/%2e%2e/secret.jpg", "fetch_file_root"),
        ("file:///etc/hostname", "fetch_file_root"),
        ("file://{root}/missing.jpg", "fetch_not_found"),
        ("file://{root}/below/a%20picture.jpg/more", "fetch_not_found"),
        ("file://{root}/below", "fetch_not_found"),
        ("file://{root}", "fetch_not_found"),
        ("file://{root}/below/a%20picture.jpg?x=1", "fetch_bad_url"),
        ("file://elsewhere{root}/below/a%20picture.jpg", "fetch_bad_url"),
        ("file:relative.jpg", "fetch_bad_url"),
        ("file://{root}/%00", "fetch_bad_url"),
    ],
)
def test_files_that_are_refused(root: Path, url: str, expected: str) -> None:
    assert reason(lambda: read_file(url.format(root=root), (root,), MAX)) == expected


def test_pipes_are_no_pictures_and_hold_nobody(root: Path) -> None:
    os.mkfifo(root / "pipe.jpg")
    assert reason(lambda: read_file((root / "pipe.jpg").as_uri(), (root,), MAX)) == "fetch_not_found"


def test_large_files_are_refused_before_they_are_read(root: Path) -> None:
    with (root / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)
    assert reason(lambda: read_file((root / "sparse.jpg").as_uri(), (root,), MAX)) == "fetch_too_large"


def test_file_handles_are_given_back(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read_file((root / "below" / "a picture.jpg").as_uri(), (root,), MAX)
        reason(lambda: read_file((root / "below").as_uri(), (root,), MAX))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_objects_of_allowed_buckets_are_read() -> None:
    pins, inner = MemoryStore(), MemoryStore()
    obstore.put(pins, "2026/a b.jpg", PICTURE)
    obstore.put(inner, "x.jpg", b"inner")
    obstore.put(pins, "private/x.jpg", b"outer")
    buckets = {"s3://pins": pins, "s3://pins/private": inner}
    with Fetcher(FetchPolicy(max_bytes=len(PICTURE)), clock=SystemClock(), buckets=buckets) as fetcher:
        assert fetcher.fetch(PinEvent.Image(url="s3://pins/2026/a b.jpg")) == PICTURE
        assert fetcher.fetch(PinEvent.Image(url="s3://pins/private/x.jpg")) == b"inner"
        for url in ("s3://pins-of-others/x.jpg", "s3://other/x.jpg", "gs://pins/x.jpg", "S3://pins/2026/a b.jpg"):
            assert reason(lambda url=url: fetcher.fetch(PinEvent.Image(url=url))) == "fetch_bucket"  # type: ignore[misc]
        assert reason(lambda: fetcher.fetch(PinEvent.Image(url="s3://pins/none.jpg"))) == "fetch_not_found"
        assert reason(lambda: fetcher.fetch(PinEvent.Image(url="s3://pins/../x.jpg"))) == "fetch_bad_url"
        obstore.put(pins, "large", PICTURE + b"x")
        assert reason(lambda: fetcher.fetch(PinEvent.Image(url="s3://pins/large"))) == "fetch_too_large"


def test_a_store_that_is_away_is_given_up_within_the_limit() -> None:
    policy = FetchPolicy(limit_s=2.0)
    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        keys = {"endpoint": f"http://127.0.0.1:{bound.getsockname()[1]}", "allow_http": "true", "region": "x"}
        keys |= {"access_key_id": "x", "secret_access_key": "x"}
        buckets = open_buckets(["s3://pins/"], policy, config={"s3://pins/": keys})
        with pytest.raises(Retryable):
            read_object("s3://pins/x.jpg", buckets, MAX)
        started = time.monotonic()
        with Fetcher(policy, clock=SystemClock(), buckets=buckets) as fetcher:
            assert reason(lambda: fetcher.fetch(PinEvent.Image(url="s3://pins/x.jpg"))) == "fetch_unreachable"
        assert time.monotonic() - started < 4.0


def test_objects_are_fetched_over_the_store_s_own_protocol() -> None:
    with PictureServer() as server:
        keys = {"endpoint": f"http://127.0.0.1:{server.port}", "allow_http": "true", "region": "x"}
        keys |= {"access_key_id": "x", "secret_access_key": "x"}
        buckets = open_buckets(
            ["s3://good", "s3://status"], FetchPolicy(), config=dict.fromkeys(["s3://good", "s3://status"], keys)
        )
        assert read_object("s3://good/x.jpg", buckets, MAX) == PICTURE
        assert reason(lambda: read_object("s3://status/403", buckets, MAX)) == "fetch_forbidden"
        assert reason(lambda: read_object("s3://status/404", buckets, MAX)) == "fetch_not_found"
        with pytest.raises(Retryable):
            read_object("s3://status/503", buckets, MAX)


@pytest.mark.parametrize("prefix", ["https://bucket.example", "file:///etc", "memory://x", "pins"])
def test_only_buckets_are_buckets(prefix: str) -> None:
    with pytest.raises(Misconfigured):
        open_buckets([prefix], FetchPolicy())
