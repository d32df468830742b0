"""Fashion-MNIST as labelled pictures: 70,000 real product photographs of 10 classes, 28 x 28 pixels, grey.

Read from Debian's `dataset-fashion-mnist` (MIT, Zalando), files in the IDX format: a big-endian magic number whose last
byte is the number of axes, the length of each axis, then the bytes.

    OUT/images/SPLIT/LABEL/00000.png, OUT/manifest.jsonl, OUT/dataset.json
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dotstream.errors import Misconfigured
from triton_models.data.coco import IMAGES
from triton_models.data.manifest import MANIFEST_FILE, write_manifest
from triton_models.files import write_whole

SOURCE = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
LABELS = (
    "T-shirt or top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = {"train": "train", "test": "t10k"}


def build(
    out: Path,
    per_class: int | None = None,
    say: Callable[[str], None] = lambda _line: None,
    source: Path = SOURCE,
) -> dict[str, int]:
    """Writes the data set; returns pictures of each split.

    Args:
        out: the folder.
        per_class: at most so many of each class and split, the first ones; None for all.
        say: told in a line what is being done.
        source: folder of the package's files.

    Raises:
        Misconfigured: the package is not installed, or its files are damaged.
    """
    rows: list[dict[str, object]] = []
    counts = {}
    for split, prefix in FILES.items():
        pictures = _idx(source / f"{prefix}-images-idx3-ubyte.gz", 3)
        labels = _idx(source / f"{prefix}-labels-idx1-ubyte.gz", 1)
        chosen = _chosen(labels, per_class)
        say(f"writing {len(chosen)} photographs for {split}")
        for number in chosen:
            label = LABELS[labels[number]]
            name = f"{IMAGES}/{split}/{label}/{number:05}.png"
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[number]).save(path)
            rows.append({"path": name, "label": label, "split": split, "synthetic": False})
        counts[split] = len(chosen)
    write_manifest(out / MANIFEST_FILE, rows)
    facts = {
        "name": "fashion-mnist",
        "description": "real product photographs, 28 x 28 pixels, grey",
        "synthetic": False,
        "licence": "MIT",
        "source": f"Debian {PACKAGE}",
        "pictures": counts,
    }
    write_whole(out / "dataset.json", (json.dumps(facts, indent=2) + "\n").encode())
    return counts


def _chosen(labels: NDArray[np.uint8], per_class: int | None) -> list[int]:
    if per_class is None:
        return list(range(len(labels)))
    return sorted(int(number) for label in range(len(LABELS)) for number in np.flatnonzero(labels == label)[:per_class])


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    if not path.is_file():
        raise Misconfigured(f"no {path}: ops/setup.sh --data (Debian package {PACKAGE})")
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise Misconfigured(f"{path} is damaged ({error}): install {PACKAGE} again") from error
    start = 4 + 4 * axes
    shape = struct.unpack_from(f">{axes}I", data, 4) if len(data) >= start else (0,)
    if data[:4] != bytes((0, 0, 8, axes)) or len(data) != start + int(np.prod(shape)):
        raise Misconfigured(f"{path} is no IDX file of {axes} axes: install {PACKAGE} again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
