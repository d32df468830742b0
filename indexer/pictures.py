"""The picture store: every picture once, under the sha256 of its bytes. And the cache of what vision saw in them.

Vision puts a picture here before its pin's record is published; the API, a new generation and searches by pin read it;
a completed takedown erases it.

Layout below the store's URL (version 1):

    pictures    ab/cd/<sha256 hex>                      the picture's bytes as they came; ab and cd are its first digits
    results     <fingerprint hex>/ab/cd/<sha256 hex>    one frame, all numbers big-endian:

        offset  size  field
             0     4  magic "DSVR"
             4     1  version, 1
             5     3  zero
             8    32  fingerprint of the pipeline
            40    32  sha256 of the picture
            72     8  n, length of the value
            80     n  value
          80+n    16  blake2b-128 of everything before

Writes are atomic (a new file renamed into place, or one put). A local folder is not synced by each write: `sync` does
that for all pictures put since, and belongs before the commit that makes their events unrepeatable.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore import exceptions

from dotstream.errors import Fatal, Poison, Retryable
from indexer.object_store import DEFAULT_LIMIT_S, local_folder, open_store, translated

T = TypeVar("T")

REF = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})")
FRAME = struct.Struct(">4sB3x32s32sQ")
MAGIC, VERSION, CHECK_BYTES = b"DSVR", 1, 16
STORE_ERRORS = (exceptions.BaseError, OSError, ValueError)


class PictureMissing(Poison):
    """No picture is kept under this reference: it was erased, or never put here."""

    def __init__(self, ref: str) -> None:
        super().__init__("picture_missing", f"no picture under {ref}")


class PictureDamaged(Poison):
    """The bytes kept under this reference are not those that it names."""

    def __init__(self, ref: str) -> None:
        super().__init__("picture_damaged", f"the bytes under {ref} fail their sha256")


def ref_of(sha256: bytes) -> str:
    """The key under which a picture is kept."""
    digits = sha256.hex()
    return f"{digits[:2]}/{digits[2:4]}/{digits}"


class PictureStore:
    """Pictures by content. Thread-safe; several processes may share one store.

    Every method raises Retryable while the store is away and Misconfigured when it refuses its credentials.
    """

    def __init__(self, url: str, *, limit_s: float = DEFAULT_LIMIT_S, config: Mapping[str, Any] | None = None) -> None:
        self._store = open_store(url, limit_s=limit_s, config=config)
        self._folder = local_folder(self._store)
        self._unsynced: set[str] = set()
        self._lock = threading.Lock()

    def put(self, sha256: bytes, data: bytes) -> str:
        """Keeps a picture; one that is there already is not written again, unless its size shows that it is torn.

        Returns:
            The reference under which `get` finds it.

        Raises:
            Fatal: `sha256` is not the data's.
        """
        if hashlib.sha256(data).digest() != sha256:
            raise Fatal(f"picture of {len(data)} bytes put under the sha256 of another, {sha256.hex()}")
        ref = ref_of(sha256)
        if self._size(ref) != len(data):
            _call(lambda: obstore.put(self._store, ref, data, use_multipart=False), f"put {ref}")
        if self._folder is not None:
            with self._lock:
                self._unsynced.add(ref)
        return ref

    def get(self, ref: str) -> bytes:
        """The picture's bytes, verified.

        Raises:
            PictureMissing, PictureDamaged: both are Poison; the second is mended by putting the picture again after
                `delete`.
            Poison: picture_ref, not a reference of this store.
        """
        _check_ref(ref)
        data = _read(self._store, ref)
        if data is None:
            raise PictureMissing(ref)
        if hashlib.sha256(data).hexdigest() != ref[6:]:
            raise PictureDamaged(ref)
        return data

    def exists(self, ref: str) -> bool:
        _check_ref(ref)
        return self._size(ref) is not None

    def delete(self, ref: str) -> None:
        """Erases a picture; one that is not there is fine."""
        _check_ref(ref)
        _delete(self._store, ref)

    def sync(self) -> None:
        """Returns once every picture put so far is on the disk of a local store. Remote stores have done so by `put`.

        Raises:
            Retryable: the disk fails; nothing put since the last success may be relied on.
        """
        with self._lock:
            refs = sorted(self._unsynced)
        if self._folder is None or not refs:
            return
        try:
            folders = {self._folder}
            for ref in refs:
                path = self._folder / ref
                folders |= {path.parent, path.parent.parent}
                _fsync(path)
            for folder in sorted(folders):
                _fsync(folder)
        except OSError as error:
            raise Retryable(f"cannot sync the picture store {self._folder}: {error}") from error
        with self._lock:
            self._unsynced.difference_update(refs)

    def _size(self, ref: str) -> int | None:
        try:
            return int(_call(lambda: obstore.head(self._store, ref), f"look for {ref}")["size"])
        except FileNotFoundError:
            return None


class ResultCache:
    """Validated vision results by picture and pipeline. A torn, foreign or damaged entry reads as a miss. Thread-safe.

    Every method raises Retryable while the store is away and Misconfigured when it refuses its credentials.
    """

    def __init__(self, url: str, *, limit_s: float = DEFAULT_LIMIT_S, config: Mapping[str, Any] | None = None) -> None:
        self._store = open_store(url, limit_s=limit_s, config=config)

    def get(self, sha256: bytes, fingerprint: bytes) -> bytes | None:
        """The value kept for a picture (sha256, 32 bytes) by a pipeline (fingerprint, 32 bytes); None for a miss."""
        frame = _read(self._store, _result_key(sha256, fingerprint))
        return None if frame is None else unframe(frame, sha256, fingerprint)

    def put(self, sha256: bytes, fingerprint: bytes, value: bytes) -> None:
        """Keeps a value, in place of one that is there."""
        key = _result_key(sha256, fingerprint)
        frame = frame_of(sha256, fingerprint, value)
        _call(lambda: obstore.put(self._store, key, frame, use_multipart=False), f"put {key}")

    def delete(self, sha256: bytes, fingerprint: bytes) -> None:
        """Forgets a picture's result; one that is not there is fine."""
        _delete(self._store, _result_key(sha256, fingerprint))


def frame_of(sha256: bytes, fingerprint: bytes, value: bytes) -> bytes:
    """A result as it is stored; the layout is in the module's docstring."""
    body = FRAME.pack(MAGIC, VERSION, fingerprint, sha256, len(value)) + value
    return body + hashlib.blake2b(body, digest_size=CHECK_BYTES).digest()


def unframe(frame: bytes, sha256: bytes, fingerprint: bytes) -> bytes | None:
    """The value of a stored result; None unless the frame is whole and is this picture's and this pipeline's."""
    body, check = frame[:-CHECK_BYTES], frame[-CHECK_BYTES:]
    if len(body) < FRAME.size or hashlib.blake2b(body, digest_size=CHECK_BYTES).digest() != check:
        return None
    expected = (MAGIC, VERSION, fingerprint, sha256, len(body) - FRAME.size)
    return body[FRAME.size :] if FRAME.unpack_from(body) == expected else None


def _result_key(sha256: bytes, fingerprint: bytes) -> str:
    return f"{fingerprint.hex()}/{ref_of(sha256)}"


def _check_ref(ref: str) -> None:
    if not REF.fullmatch(ref):
        raise Poison("picture_ref", f"{ref[:100]!r} is not a picture reference")


def _call(ask: Callable[[], T], what: str) -> T:
    """Runs one request; an absent object stays FileNotFoundError, every other error becomes the project's."""
    try:
        return ask()
    except FileNotFoundError:
        raise
    except STORE_ERRORS as error:
        raise translated(error, what) from error


def _read(store: Any, key: str) -> bytes | None:
    try:
        return _call(lambda: bytes(obstore.get(store, key).bytes()), f"get {key}")
    except FileNotFoundError:
        return None


def _delete(store: Any, key: str) -> None:
    try:
        _call(lambda: obstore.delete(store, key), f"delete {key}")
    except FileNotFoundError:
        return


def _fsync(path: Path) -> None:
    """A picture erased in the meantime needs no syncing."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
