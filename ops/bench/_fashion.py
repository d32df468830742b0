"""Codes of real photographs, for benchmarks in which it matters what is near what: Fashion-MNIST through the embedder.

70,000 photographs of 28 x 28 grey pixels (Debian package dataset-fashion-mnist), stretched to 96 x 96 and embedded by
EfficientNet-Lite0, 1,280 bits each. The photographs are real and so are the codes; small pictures at a small size keep
the cost at some minutes. They are embedded once and kept in the user's cache folder.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dotstream.errors import Misconfigured
from indexer.scan import Codes

TRAINING = 60_000
_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_SIDE, _SMALL = 96, 28
_BATCH = 64


def fashion_codes(cache: Path, progress: Callable[[str], None]) -> tuple[Codes, Codes]:
    """(codes of the 60,000 training photographs, codes of the 10,000 others), uint8 [n, 160].

    Raises:
        Misconfigured: the photographs are not on this machine.
    """
    kept = cache / "bench" / "fashion-mnist-96-efficientnet-lite0.npy"
    if kept.exists():
        codes: Codes = np.load(kept)
    else:
        pictures = np.concatenate([_pictures("train"), _pictures("t10k")])
        codes = _embed(pictures, cache, progress)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, codes)
        partial.rename(kept)
    return codes[:TRAINING], codes[TRAINING:]


def _pictures(name: str) -> Codes:
    path = _FOLDER / f"{name}-images-idx3-ubyte.gz"
    if not path.exists():
        raise Misconfigured(f"{path} is missing; apt-get install dataset-fashion-mnist brings it")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, _SMALL, _SMALL)


def _embed(pictures: Codes, cache: Path, progress: Callable[[str], None]) -> Codes:
    import torch
    from torch.nn.functional import interpolate

    from triton_models.export_efficientnet import MEAN, SPREAD, load_network
    from triton_models.fetch import fetch

    network = load_network(fetch(cache, progress).embedder)
    codes = np.empty((len(pictures), 160), np.uint8)
    with torch.inference_mode():
        for at in range(0, len(pictures), _BATCH):
            if at % (100 * _BATCH) == 0:
                progress(f"embedding photographs, {at} of {len(pictures)}")
            planes = torch.from_numpy(pictures[at : at + _BATCH].copy()).float()[:, None]
            planes = interpolate(planes, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
            features = network.extract_features(((planes - MEAN) / SPREAD).expand(-1, 3, -1, -1)).mean(dim=(2, 3))
            codes[at : at + _BATCH] = np.packbits(features.numpy() > 0, axis=1)
    return codes
