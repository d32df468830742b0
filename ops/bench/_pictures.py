"""Photographs for benchmarks: the demonstration's, as ready tensors, and as many distinct files as a run needs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ops.demo.photographs import PHOTOGRAPHS
from ops.demo.pictures import locate
from triton_models.client import TritonClient
from triton_models.pictures import crop_resize, decode, resize
from triton_models.pipeline import Vision, VisionSettings

LONGEST_SIDE = 640

Tensor = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Ready:
    """One picture as the closed loop sends it: uint8 [300, 300, 3], and [1 + objects, 224, 224, 3]."""

    whole: Tensor
    crops: Tensor


def jpegs(cache: Path, progress: Any) -> list[bytes]:
    """The demonstration's photographs, at most 640 pixels on the longer side."""
    found = []
    for path in locate(PHOTOGRAPHS, cache, progress).values():
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=90)
            found.append(out.getvalue())
    return found


def distinct(data: bytes, number: int) -> bytes:
    """The same picture in a file of its own: a comment segment behind the JPEG's first marker."""
    text = f"copy {number}".encode()
    return data[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[2:]


def ready(client: TritonClient, files: Sequence[bytes], settings: VisionSettings) -> list[Ready]:
    """What the pipeline would send for each picture, made beforehand."""
    vision = Vision(client, settings)
    made = []
    for data in files:
        picture = decode(data)
        (seen,) = vision.see([picture])
        crops = [resize(picture.pixels, settings.embedder_size)]
        crops += [crop_resize(picture.pixels, found.box, settings.embedder_size) for found in seen.objects]
        made.append(Ready(resize(picture.pixels, settings.detector_size), np.stack(crops)))
    return made
