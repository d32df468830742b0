"""Versions in a repository that several exports write at once: each whole, each number once, one contract a name."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dotstream.errors import Misconfigured
from triton_models.cards import ModelCard, read_cards
from triton_models.versions import CONFIG_FILE, LABELS_FILE, add_version, lock

CARD = ModelCard("shapes", 0, "", "recipe", "source", "", "CC0-1.0")
EACH = 12


def files(side: int = 64, labels: str = "a\nb\n") -> dict[str, str]:
    tensor = f'input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }} ]\n'
    return {CONFIG_FILE: tensor, LABELS_FILE: labels}


def add_many(repository: str, writer: int) -> None:
    for turn in range(EACH):
        add_version(Path(repository), f"graph {writer} {turn}".encode() * 5_000, CARD, files())


def test_exports_at_the_same_time_each_get_a_whole_version_of_their_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_many, args=(str(tmp_path), writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    cards = read_cards(tmp_path)  # compares each file with its card
    assert [card.version for card in cards] == list(range(1, 3 * EACH + 1))
    assert len({card.sha256 for card in cards}) == 3 * EACH
    assert not list((tmp_path / "shapes").glob(".*"))


def test_what_a_killed_export_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / "shapes" / ".1.4711"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    assert add_version(tmp_path, b"whole", CARD, files()).version == 1
    assert not left.exists()


def test_a_name_keeps_its_tensors_and_labels(tmp_path: Path) -> None:
    add_version(tmp_path, b"one", CARD, files())
    without_labels = {CONFIG_FILE: files()[CONFIG_FILE]}
    for other in (files(side=32), files(labels="a\nc\n"), without_labels):
        with pytest.raises(Misconfigured, match="another name"):
            add_version(tmp_path, b"two", CARD, other)
    assert [card.version for card in read_cards(tmp_path)] == [1]


def test_an_export_waits_for_the_one_before_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with lock(tmp_path):
            waiting = pool.submit(add_version, tmp_path, b"two", CARD, files())
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            assert not read_cards(tmp_path)
        assert waiting.result(timeout=60).version == 1
