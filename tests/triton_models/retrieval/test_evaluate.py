"""An evaluation as a whole, on pictures whose answer is known, and as the command prints it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dotstream.errors import Misconfigured
from ops.commands.eval import app
from ops.retrieval import report
from triton_models.data.manifest import read_labelled, write_manifest
from triton_models.embedders.codes import pack, statistics
from triton_models.fetch import Weights
from triton_models.retrieval.evaluate import Evaluation, evaluate
from triton_models.retrieval.features import Asked
from triton_models.retrieval.plots import NoiseSeparation
from triton_models.retrieval.protocol import Protocol


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels that pixels tell apart; four objects of each, three pictures of each object; one broken file."""
    folder = tmp_path_factory.mktemp("shades")
    rng = np.random.default_rng(0)
    rows = []
    for number, label in enumerate(("dark", "middle", "bright")):
        for thing in range(4):
            for view in range(3):
                name = f"{label}{thing}{view}.png"
                shade = 40 + 85 * number + rng.integers(-8, 8, (40, 40, 3))
                Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(folder / name)
                rows.append({"path": name, "label": label, "object": f"{label}{thing}", "split": "test"})
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    rows.append({"path": "broken.jpg", "label": "dark", "object": "x", "split": "test"})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def evaluation(data: Path, weights: Weights) -> Evaluation:
    pictures, _ = read_labelled(data)
    asked = [Asked("pixels"), Asked("efficientnet_lite0")]
    return evaluate(pictures, asked, Protocol(queries=15, seed=2), cache=weights.embedder.parent.parent)


def test_pixels_find_the_labels_that_differ_in_shade(evaluation: Evaluation) -> None:
    assert [problem.reason for problem in evaluation.problems] == ["picture_truncated"]
    assert len(evaluation.pictures) == 36 and len(evaluation.split.queries) == 15
    row = evaluation.row("pixels", "raw", "L2")
    assert row.precision[0].value == 1.0 and row.bytes == 32 * 32 * 3 * 4


def test_rows_equal_a_plain_second_implementation(evaluation: Evaluation) -> None:
    """Features as extracted; everything behind them done again with loops."""
    for extracted in evaluation.extracted:
        features = extracted.features
        for kind, distance in (("raw", "L2"), ("raw", "L1"), ("sign", "Hamming")):
            if extracted.asked.name == "pixels" and kind == "sign":
                continue
            row = evaluation.row(extracted.asked.name, kind, distance)  # type: ignore[arg-type]
            shares = []
            for query in evaluation.split.queries:
                mine = evaluation.pictures[query]
                scored = []
                for rank, place in enumerate(evaluation.split.gallery):
                    other = evaluation.pictures[place]
                    if other.object == mine.object:
                        continue
                    first, second = features[query].astype(np.float64), features[place].astype(np.float64)
                    if distance == "L2":
                        away = float(((first - second) ** 2).sum())
                    elif distance == "L1":
                        away = float(np.abs(features[place] - features[query]).sum())
                    else:
                        away = float((np.unpackbits(pack(first[None])) != np.unpackbits(pack(second[None]))).sum())
                    scored.append((away, rank, other.label == mine.label))
                found = [relevant for _, _, relevant in sorted(scored)]
                shares.append([sum(found[:depth]) / depth for depth in (1, 5, 10)])
            expected = np.mean(shares, axis=0)
            np.testing.assert_allclose([one.value for one in row.precision], expected, atol=1e-9)


def test_intervals_hold_their_estimate(evaluation: Evaluation) -> None:
    assert len(evaluation.rows) == 3 + 4
    for row in evaluation.rows:
        for one in row.precision:
            assert 0 <= one.low <= one.value <= one.high <= 1


def test_what_was_not_evaluated_is_an_error(evaluation: Evaluation) -> None:
    with pytest.raises(Misconfigured, match="not evaluated"):
        evaluation.row("vgg16_fc6", "raw", "L2")


def test_the_command_prints_model_weights_data_and_split(data: Path, tmp_path: Path) -> None:
    plots = ["--noise-plot", str(tmp_path / "noise.png"), "--embedding-plot", str(tmp_path / "map.png")]
    words = ["retrieval", str(data), "--queries", "10", "--model", "pixels", "--model", "googlenet_loss3=random"]
    listed = tmp_path / "left out.jsonl"
    run = CliRunner().invoke(app, [*words, *plots, "--problems", str(listed), "--json"])
    assert run.exit_code == 0, run.output
    facts = json.loads(run.stdout)
    assert set(facts) == {"name", "conditions", "figures"} and facts["name"] == "retrieval"
    assert facts["conditions"]["weights"]["googlenet_loss3=random"].startswith("RANDOM")
    assert facts["conditions"]["synthetic"] == "0 of 36 pictures" and facts["conditions"]["left_out"] == 1
    assert {"value", "unit"} <= set(facts["figures"]["pixels raw L2 P@1"])
    assert facts["figures"]["googlenet_loss3=RANDOM raw L2 P@1"]["peer"] == 0.095
    assert "left out, picture_truncated: 1" in run.stderr and str(data / "broken.jpg") in run.stderr
    assert json.loads(listed.read_text())["path"] == str(data / "broken.jpg")
    for plot in ("noise.png", "map.png"):
        with Image.open(tmp_path / plot) as picture:
            assert min(picture.size) > 500


def test_a_split_that_is_not_there_is_named(data: Path) -> None:
    refused = CliRunner().invoke(app, ["retrieval", str(data), "--split", "val", "--model", "pixels"]).exception
    assert isinstance(refused, Misconfigured) and "'val'; there are test, and all" in str(refused)


def test_thresholds_from_the_evaluated_pictures_themselves_are_told(data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    moved = [{**row, "path": str(data / row["path"]), "split": "train"} for row in rows]
    write_manifest(tmp_path / "manifest.jsonl", moved)
    words = ["retrieval", str(tmp_path), "--split", "train", "--queries", "10", "--model", "pixels", "--json"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)["conditions"]["median_thresholds"]
    assert said == {"pixels=default": "the gallery itself (26 pictures)"}


def test_the_table_tells_random_weights_layers_unfit_for_codes_and_noise(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    untrained = [replace(one, trained=False) for one in evaluation.extracted if one.asked.name != "pixels"]
    collapsed = statistics(np.ones((4, 8), np.float32))
    shown = replace(
        evaluation, extracted=untrained, bits={**evaluation.bits, ("efficientnet_lite0", "default", "sign"): collapsed}
    )
    noise = {"efficientnet_lite0": NoiseSeparation(raw=0.65, binary=0.96)}
    report(shown, Path("shades"), "test", noise, 0, 0).show(as_json=False)
    printed = capsys.readouterr().out
    assert "RANDOM WEIGHTS" in printed and "WARNING: unfit for codes" in printed and "100.00% of bits set" in printed
    assert "told apart in 0.65 of pairs by raw features, in 0.96 by codes" in printed
    assert "efficientnet_lite0" in printed and "P@10" in printed and "sign Hamming minus raw L2" in printed
