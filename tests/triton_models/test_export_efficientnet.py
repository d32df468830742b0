"""The exported embedder against the torch original, on real photographs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dotstream.errors import Misconfigured
from tests.support.photographs import pictures
from triton_models.export_efficientnet import load_network
from triton_models.fetch import Weights


@pytest.fixture(scope="module")
def exported(exported_repository: Path) -> onnxruntime.InferenceSession:
    path = exported_repository / "efficientnet_lite0" / "1" / "model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@cache
def original(weights: Path) -> NDArray[np.float32]:
    """Pooled features of the torch original, normalised outside of it as its authors say."""
    network = load_network(weights)
    with torch.inference_mode():
        planes = (torch.from_numpy(pictures(224)).permute(0, 3, 1, 2).float() - 127) / 128
        features = functional.adaptive_avg_pool2d(network.extract_features(planes), 1).flatten(1)
    return np.asarray(features.numpy(), dtype=np.float32)


def test_features_agree_with_the_original(exported: onnxruntime.InferenceSession, weights: Weights) -> None:
    theirs = original(weights.embedder)
    (ours,) = exported.run(["features"], {"image": pictures(224)})
    assert (ours.shape, ours.dtype) == ((len(pictures(224)), 1280), np.float32)
    cosine = (ours * theirs).sum(axis=1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    assert cosine.min() >= 0.9999
    assert np.abs(ours - theirs).max() <= 1e-3


def test_codes_are_the_signs_of_the_features_highest_bit_first(exported: onnxruntime.InferenceSession) -> None:
    codes, features = exported.run(["codes", "features"], {"image": pictures(224)})
    assert (codes.shape, codes.dtype) == ((len(features), 160), np.uint8)
    np.testing.assert_array_equal(codes, np.packbits(features > 0, axis=1, bitorder="big"))


def test_codes_agree_with_the_original_but_for_features_at_the_threshold(
    exported: onnxruntime.InferenceSession, weights: Weights
) -> None:
    theirs = original(weights.embedder)
    (codes,) = exported.run(["codes"], {"image": pictures(224)})
    different = np.unpackbits(codes, axis=1).astype(bool) != (theirs > 0)
    assert different.mean() < 0.001
    assert (theirs[different] < 1e-4).all()


def test_codes_tell_pictures_apart(exported: onnxruntime.InferenceSession) -> None:
    (codes,) = exported.run(["codes"], {"image": pictures(224)})
    bits = np.unpackbits(codes, axis=1)
    assert 0.3 < bits.mean() < 0.7
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    assert distances[~np.eye(len(bits), dtype=bool)].min() > 100


def test_batch_is_free(exported: onnxruntime.InferenceSession, weights: Weights) -> None:
    assert exported.get_inputs()[0].shape[1:] == [224, 224, 3]
    for count in (1, 3):
        (features,) = exported.run(["features"], {"image": pictures(224)[:count]})
        np.testing.assert_allclose(features, original(weights.embedder)[:count], atol=1e-3)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"_fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(Misconfigured, match="EfficientNet-Lite0"):
        load_network(other)
