"""Fashion-MNIST out of the real Debian package."""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dotstream.errors import Misconfigured
from triton_models.data.fashion_mnist import LABELS, SOURCE, build
from triton_models.data.manifest import read_labelled


def test_pictures_are_those_of_the_package(tmp_path: Path) -> None:
    assert build(tmp_path, per_class=3) == {"train": 30, "test": 30}
    pictures, problems = read_labelled(tmp_path)
    assert not problems and not any(one.synthetic for one in pictures)
    assert Counter((one.split, one.label) for one in pictures) == {
        (split, label): 3 for split in ("train", "test") for label in LABELS
    }
    raw = gzip.decompress((SOURCE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((SOURCE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    for one in pictures:
        if one.split == "test":
            number = int(one.path.stem)
            assert LABELS[labels[number]] == one.label
            with Image.open(one.path) as picture:
                assert np.asarray(picture).tobytes() == raw[number * 784 : (number + 1) * 784]


def test_missing_and_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="dataset-fashion-mnist"):
        build(tmp_path / "out", source=tmp_path / "none")
    broken = Path(shutil.copytree(SOURCE, tmp_path / "broken"))
    whole = (broken / "train-images-idx3-ubyte.gz").read_bytes()
    for damage in (whole[:1000], gzip.compress(b"\0\0\x08\x03" + b"\0" * 40), gzip.compress(b"")):
        (broken / "train-images-idx3-ubyte.gz").write_bytes(damage)
        with pytest.raises(Misconfigured, match="install dataset-fashion-mnist again"):
            build(tmp_path / "out", source=broken)
