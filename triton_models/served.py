"""What a model must look like to be used here, and what the server says that it serves.

Read once per connection by triton_models/client.py: names, versions and tensors are compared with the contract of
triton_models/repository/, so that a wrong model stops a worker at its start instead of filling the index with codes of
something else. The version found is pinned in every later request: a model that is swapped under a running worker
cannot mix into its generation; the worker's calls then fail as Unavailable until it is started again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dotstream.errors import Fatal, Misconfigured, Unavailable
from triton_models.connection import Connection

IMAGE = "image"  # the one input of all models
CODES = "codes"

DTYPES: Mapping[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "FP32": np.dtype("<f4"),
}
"""Triton's names of the tensor types in use; Triton sends little-endian values."""


@dataclass(frozen=True)
class Output:
    """An output tensor: Triton's name of its type and the shape of one row (a batch has one more axis in front)."""

    datatype: str
    row: tuple[int, ...]

    def row_bytes(self) -> int:
        return DTYPES[self.datatype].itemsize * math.prod(self.row)


@dataclass(frozen=True)
class Contract:
    """The outputs that a model must have: type and the shape of one row.

    In a shape None stands for a size that the model may choose, "K" for one that is the same wherever it occurs.
    """

    outputs: Mapping[str, tuple[str, tuple[int | str | None, ...]]]


DETECTOR = Contract({"boxes": ("FP32", ("K", 4)), "labels": ("INT32", ("K",)), "scores": ("FP32", ("K",))})
EMBEDDER = Contract({CODES: ("UINT8", (None,)), "features": ("FP32", (None,))})


@dataclass(frozen=True)
class Extra:
    """A further code that pictures get beside the searched one: an output of a served model, packed bits.

    Attributes:
        model: its name; it may be the embedder, which then gives both codes in one pass.
        output: UINT8 [bits / 8] for each picture.
    """

    model: str
    output: str = CODES


def with_extra(base: Contract, model: str, extra: Iterable[Extra]) -> Contract:
    """The contract with those of the extra features that are of `model`."""
    own = {one.output: EMBEDDER.outputs[CODES] for one in extra if one.model == model}
    return Contract({**base.outputs, **own})


@dataclass(frozen=True)
class Served:
    """One model at one version as the server serves it.

    Attributes:
        name, version: as in requests.
        max_batch: rows that one request may carry.
        size: side of the square RGB picture that the model takes, in pixels.
        outputs: by name, those of the contract only.
        response_cache: whether the server keeps answers by their inputs.
    """

    name: str
    version: str
    max_batch: int
    size: int
    outputs: Mapping[str, Output]
    response_cache: bool = False

    @property
    def full_name(self) -> str:
        """As records carry it: "name@version"."""
        return f"{self.name}@{self.version}"

    @property
    def batch_bytes(self) -> int:
        """Bytes of the largest batch of pictures that one request may carry."""
        return self.max_batch * self.size * self.size * 3

    def check_images(self, images: npt.NDArray[np.uint8]) -> None:
        """Raises Fatal unless `images` is uint8 [n, size, size, 3]: a defect of the calling code, not of input."""
        expected = (self.size, self.size, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise Fatal(f"{self.name} takes uint8 [n, *{expected}], got {images.dtype} {images.shape}")


def read_served(connection: Connection, name: str, version: str | None, contract: Contract) -> Served:
    """Asks the server about a model and checks it against `contract`.

    The version is the given one, or with None the newest that is served.

    Raises: Misconfigured when the server is ready and its repository has no such model, or the model does not fit;
        Unavailable while the server is away, starting or loading the model.
    """
    try:
        metadata = connection.metadata(name, version or "")
        # Several versions may be served at once; versions are numbers by Triton's rules of the repository.
        version = version or max(metadata.versions, key=int)
        config = connection.config(name, version)
    except Unavailable as error:
        raise _missing(connection, name, error) from error
    if config.max_batch_size < 1:
        raise Misconfigured(f"model {name}: max_batch_size must be at least 1, the server says {config.max_batch_size}")
    return Served(
        name=name,
        version=version,
        max_batch=config.max_batch_size,
        size=_picture_size(name, metadata.inputs),
        outputs=_outputs(name, metadata.outputs, contract),
        response_cache=config.response_cache.enable,
    )


def _missing(connection: Connection, name: str, error: Unavailable) -> Exception:
    if not connection.ready():
        return error
    models = connection.models()
    if name in models:
        return error
    return Misconfigured(
        f"Triton at {connection.address} has no model {name!r} in its repository; it has {', '.join(sorted(models))}"
    )


def _picture_size(name: str, inputs: Iterable[Any]) -> int:
    found = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in inputs}
    datatype, shape = found.get(IMAGE, ("", []))
    fits = len(found) == 1 and datatype == "UINT8" and len(shape) == 4 and shape[1] == shape[2] > 0 and shape[3] == 3
    if not fits:
        raise Misconfigured(f"model {name} must take one input {IMAGE!r} UINT8 [-1, S, S, 3], the server says {found}")
    return int(shape[1])


def _outputs(name: str, tensors: Iterable[Any], contract: Contract) -> dict[str, Output]:
    found = {tensor.name: Output(tensor.datatype, tuple(tensor.shape)[1:]) for tensor in tensors}
    shared: dict[str, int] = {}
    for output, (datatype, row) in contract.outputs.items():
        served = found.get(output)
        if served is None or served.datatype != datatype or not _fits(served.row, row, shared):
            said = "no such output" if served is None else f"{served.datatype} {served.row}"
            raise Misconfigured(
                f"model {name}: output {output!r} must be {datatype} {row} per row, the server says {said}"
            )
    return {output: found[output] for output in contract.outputs}


def _fits(row: tuple[int, ...], expected: tuple[int | str | None, ...], shared: dict[str, int]) -> bool:
    if len(row) != len(expected):
        return False
    for size, wanted in zip(row, expected, strict=True):
        fixed = shared.setdefault(wanted, size) if isinstance(wanted, str) else wanted
        if size < 1 or (fixed is not None and size != fixed):
            return False
    return True
