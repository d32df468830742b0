"""A user's labelled pictures: what cannot be used is listed with path and reason, the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dotstream.errors import Misconfigured
from triton_models.data.manifest import read_labelled, write_manifest
from triton_models.data.problems import counted, write_problems


def test_bad_rows_and_missing_pictures_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    rows: list[object] = [
        {"path": "a.jpg", "label": "chair", "object": "c1", "split": "test", "synthetic": True},
        {"path": "a.jpg", "labels": ["chair"]},
        {"path": "a.jpg", "labels": ["chair", "lamp"]},
        {"path": "a.jpg", "labels": []},
        {"path": "gone.jpg", "label": "lamp"},
        {"path": "a.jpg"},
        {"path": "a.jpg", "label": ""},
        {"path": 7, "label": "lamp"},
        ["a.jpg", "lamp"],
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{half\n\n"
    (tmp_path / "manifest.jsonl").write_bytes(text.encode() + b'{"path": "\xff"}\n' + b"[" * 100_000)
    pictures, problems = read_labelled(tmp_path)
    assert [(one.label, one.object, one.split, one.synthetic) for one in pictures] == [
        ("chair", "c1", "test", True),
        ("chair", str(tmp_path / "a.jpg"), "", False),
    ]
    assert counted(problems) == {"bad_row": 7, "conflicting_labels": 1, "no_label": 1, "picture_missing": 1}
    assert all(problem.path for problem in problems)
    write_problems(tmp_path, problems)
    assert len((tmp_path / "problems.jsonl").read_text().splitlines()) == 10
    only_test, _ = read_labelled(tmp_path / "manifest.jsonl", split="test")
    assert len(only_test) == 1


def test_a_manifest_that_was_written_is_read_whatever_its_labels_are(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    labels = ["Stühle", "a line separator \u2028 is no end of a row"]
    write_manifest(tmp_path / "manifest.jsonl", [{"path": "a.jpg", "label": label} for label in labels])
    pictures, problems = read_labelled(tmp_path)
    assert [one.label for one in pictures] == labels and not problems


def test_a_folder_for_each_label(tmp_path: Path) -> None:
    for name in ("chair/1.jpg", "chair/old/2.PNG", "lamp/3.webp", "lamp/notes.txt", "loose.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    pictures, problems = read_labelled(tmp_path)
    assert [(one.path.name, one.label) for one in pictures] == [
        ("1.jpg", "chair"),
        ("2.PNG", "chair"),
        ("3.webp", "lamp"),
    ]
    assert counted(problems) == {"not_a_picture": 1, "no_label": 1}


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_use_is_an_error_that_says_what_is_needed(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Misconfigured, match=r"manifest"):
        read_labelled(tmp_path / name)
