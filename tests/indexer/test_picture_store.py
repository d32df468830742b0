"""The picture store and the result cache, on a local folder and in memory: kept once, verified, never half."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore import exceptions

from dotstream.errors import DotstreamError, Fatal, Misconfigured, Poison, Retryable, Unavailable
from indexer.object_store import translated
from indexer.pictures import PictureDamaged, PictureMissing, PictureStore, ResultCache, frame_of, ref_of, unframe

DATA = b"the bytes of a picture" * 1000
SHA = hashlib.sha256(DATA).digest()
REF = ref_of(SHA)
FINGERPRINT = bytes(range(32))
GOLDEN_FRAME = bytes.fromhex(
    "4453565201000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "abababababababababababababababababababababababababababababababab0000000000000003"
    "010203"
)


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:///" if request.param == "memory" else (tmp_path / "pictures with space").as_uri()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_picture_comes_back_by_its_reference(url: str) -> None:
    store = PictureStore(url)
    assert not store.exists(REF)
    assert store.put(SHA, DATA) == REF
    assert store.exists(REF)
    assert store.get(REF) == DATA
    store.sync()
    assert store.get(REF) == DATA


def test_the_reference_is_sharded_by_its_first_digits() -> None:
    digits = SHA.hex()
    assert f"{digits[:2]}/{digits[2:4]}/{digits}" == REF


def test_an_erased_picture_is_missing(url: str) -> None:
    store = PictureStore(url)
    store.put(SHA, DATA)
    store.delete(REF)
    store.delete(REF)
    assert not store.exists(REF)
    with pytest.raises(PictureMissing) as caught:
        store.get(REF)
    assert caught.value.reason == "picture_missing"
    store.sync()


def test_an_empty_picture_is_kept_too(url: str) -> None:
    store = PictureStore(url)
    ref = store.put(hashlib.sha256(b"").digest(), b"")
    assert store.get(ref) == b""


def test_bytes_under_a_wrong_name_are_refused(url: str) -> None:
    with pytest.raises(Fatal):
        PictureStore(url).put(SHA, DATA + b"x")


@settings(deadline=None, max_examples=100)
@given(ref=st.text() | st.sampled_from(["", "..", "../../etc/passwd", REF + "/", "/" + REF, REF.upper(), REF + "\n"]))
def test_only_references_are_asked_for(ref: str) -> None:
    store = PictureStore("memory:///")
    asks: tuple[Callable[[str], object], ...] = (store.get, store.exists, store.delete)
    for ask in asks:
        with pytest.raises(Poison) as caught:
            ask(ref)
        assert caught.value.reason == "picture_ref"


def test_a_picture_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    store = PictureStore(tmp_path.as_uri())
    store.put(SHA, DATA)
    (path,) = files(tmp_path)
    assert path == tmp_path / REF
    before = path.stat()
    store.put(SHA, DATA)
    PictureStore(tmp_path.as_uri()).put(SHA, DATA)
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("torn", [b"", DATA[:512], DATA[:4096], DATA + b"x"])
def test_a_torn_picture_is_detected_and_written_again(tmp_path: Path, torn: bytes) -> None:
    store = PictureStore(tmp_path.as_uri())
    store.put(SHA, DATA)
    (tmp_path / REF).write_bytes(torn)
    with pytest.raises(PictureDamaged):
        store.get(REF)
    store.put(SHA, DATA)
    assert store.get(REF) == DATA


def test_a_flipped_bit_is_detected_and_mended_by_hand(tmp_path: Path) -> None:
    store = PictureStore(tmp_path.as_uri())
    store.put(SHA, DATA)
    (tmp_path / REF).write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(PictureDamaged) as caught:
        store.get(REF)
    assert caught.value.reason == "picture_damaged"
    store.delete(REF)
    store.put(SHA, DATA)
    assert store.get(REF) == DATA


def test_many_writers_and_readers_of_one_picture(tmp_path: Path) -> None:
    stores = [PictureStore(tmp_path.as_uri()) for _ in range(2)]
    wrong: list[object] = []

    def work(store: PictureStore) -> None:
        for n in range(40):
            data = bytes([n]) * 50_000
            ref = store.put(hashlib.sha256(data).digest(), data)
            if store.get(ref) != data:
                wrong.append(ref)

    threads = [threading.Thread(target=work, args=(stores[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert len(files(tmp_path)) == 40


def test_sync_reaches_each_picture_and_its_folders_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store = PictureStore(tmp_path.as_uri())
    store.put(SHA, DATA)
    store.sync()
    path = tmp_path / REF
    assert synced == [str(path), *sorted(str(p) for p in (tmp_path, path.parent.parent, path.parent))]
    store.sync()
    assert len(synced) == 4
    PictureStore(tmp_path.as_uri()).put(SHA, DATA)
    store.put(SHA, DATA)  # kept by another writer that may not have synced it
    store.sync()
    assert len(synced) == 8


def test_a_failed_sync_is_owed_until_it_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PictureStore(tmp_path.as_uri())
    store.put(SHA, DATA)
    with monkeypatch.context() as broken:

        def failing(handle: int) -> None:
            raise OSError(errno.EIO, "disk fails")

        broken.setattr(os, "fsync", failing)
        for _ in range(2):
            with pytest.raises(Retryable):
                store.sync()
    store.sync()


def test_a_store_that_went_away_is_retryable(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    store, cache = PictureStore(folder.as_uri()), ResultCache(folder.as_uri())
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    with pytest.raises(Retryable):
        store.put(SHA, DATA)
    with pytest.raises(Retryable):
        cache.put(SHA, FINGERPRINT, b"value")


@pytest.mark.parametrize("bad", ["file://relative/path", "file:relative", "bogus://x", "", "pictures", "s3://"])
def test_urls_that_name_no_store_are_misconfigured(bad: str) -> None:
    with pytest.raises(Misconfigured):
        PictureStore(bad)


def test_unknown_store_keys_are_misconfigured() -> None:
    with pytest.raises(Misconfigured):
        PictureStore("s3://bucket", config={"bogus": "x"})


def test_every_error_of_obstore_has_a_translation() -> None:
    kinds = {name: getattr(exceptions, name) for name in dir(exceptions) if name.endswith("Error")}
    expected: dict[str, type[DotstreamError]] = {
        "AlreadyExistsError": Unavailable,
        "BaseError": Unavailable,
        "GenericError": Unavailable,
        "InvalidPathError": Poison,
        "JoinError": Unavailable,
        "NotFoundError": Unavailable,
        "NotModifiedError": Unavailable,
        "NotSupportedError": Misconfigured,
        "PermissionDeniedError": Misconfigured,
        "PreconditionError": Unavailable,
        "UnauthenticatedError": Misconfigured,
        "UnknownConfigurationKeyError": Misconfigured,
    }
    assert set(kinds) == set(expected)
    for name, kind in kinds.items():
        assert type(translated(kind("x"), "get it")) is expected[name], name
    assert type(translated(OSError("x"), "get it")) is Retryable
    assert type(translated(ValueError("x"), "get it")) is Poison


def test_a_result_comes_back_for_its_picture_and_pipeline(url: str) -> None:
    cache = ResultCache(url)
    other = hashlib.sha256(b"other").digest()
    assert cache.get(SHA, FINGERPRINT) is None
    cache.put(SHA, FINGERPRINT, b"old")
    cache.put(SHA, FINGERPRINT, b"value")
    assert cache.get(SHA, FINGERPRINT) == b"value"
    assert cache.get(other, FINGERPRINT) is None
    assert cache.get(SHA, other) is None
    cache.delete(SHA, FINGERPRINT)
    cache.delete(SHA, FINGERPRINT)
    assert cache.get(SHA, FINGERPRINT) is None


@pytest.mark.parametrize("kept", [0, 1, 40, 79, 80, 99, 512])
def test_a_torn_result_is_a_miss_and_is_replaced(tmp_path: Path, kept: int) -> None:
    cache = ResultCache(tmp_path.as_uri())
    cache.put(SHA, FINGERPRINT, DATA)
    path = tmp_path / FINGERPRINT.hex() / REF
    path.write_bytes(path.read_bytes()[:kept])
    assert cache.get(SHA, FINGERPRINT) is None
    cache.put(SHA, FINGERPRINT, DATA)
    assert cache.get(SHA, FINGERPRINT) == DATA


def test_a_result_copied_to_another_name_is_a_miss(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path.as_uri())
    cache.put(SHA, FINGERPRINT, b"value")
    other = hashlib.sha256(b"other").digest()
    moved = tmp_path / FINGERPRINT.hex() / ref_of(other)
    moved.parent.mkdir(parents=True)
    shutil.copy(tmp_path / FINGERPRINT.hex() / REF, moved)
    assert cache.get(other, FINGERPRINT) is None


@settings(deadline=None, max_examples=300)
@given(value=st.binary(max_size=200), data=st.data())
def test_any_change_of_a_frame_is_detected(value: bytes, data: st.DataObject) -> None:
    frame = frame_of(SHA, FINGERPRINT, value)
    assert unframe(frame, SHA, FINGERPRINT) == value
    at = data.draw(st.integers(0, len(frame) - 1))
    flipped = frame[:at] + bytes([frame[at] ^ data.draw(st.integers(1, 255))]) + frame[at + 1 :]
    assert unframe(flipped, SHA, FINGERPRINT) is None
    assert unframe(frame[:at], SHA, FINGERPRINT) is None
    assert unframe(frame + b"\0", SHA, FINGERPRINT) is None


def test_version_1_frames_stay_readable(tmp_path: Path) -> None:
    sha256 = b"\xab" * 32
    frame = GOLDEN_FRAME + hashlib.blake2b(GOLDEN_FRAME, digest_size=16).digest()
    assert frame_of(sha256, FINGERPRINT, b"\1\2\3") == frame
    cache = ResultCache(tmp_path.as_uri())
    key = f"{FINGERPRINT.hex()}/ab/ab/{'ab' * 32}"
    obstore.put(obstore.store.LocalStore(tmp_path), key, frame)
    assert cache.get(sha256, FINGERPRINT) == b"\1\2\3"
