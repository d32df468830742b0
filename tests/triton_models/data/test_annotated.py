"""Classes out of annotations: balanced, disjoint, and only pictures whose annotations are all sampled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dotstream.errors import Misconfigured
from tests.ops.test_cli import dotstream
from triton_models.data.annotated import Annotated, Choice, draw
from triton_models.data.manifest import read_labelled

WORDS = ["lamp", "chair", "sofa", "boots"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Forty files; the last ten repeat the first."""
    folder = tmp_path_factory.mktemp("pins")
    paths = [folder / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("L", (16, 16), number % 30).save(path)
    return paths


@given(
    st.lists(st.lists(st.sampled_from([*WORDS, "other"]), max_size=3), min_size=40, max_size=40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_what_is_drawn(files: list[Path], annotations: list[list[str]], train: int, evaluate: int, seed: int) -> None:
    pictures = [Annotated(f"p{n}", path, tuple(annotations[n])) for n, path in enumerate(files)]
    choice = Choice(top=4, classes=3, train=train, evaluate=evaluate, seed=seed)
    try:
        drawn = draw(pictures, [*WORDS, "other"], choice)
    except Misconfigured:
        return
    words = {one.pin_id: set(one.annotations) for one in pictures}
    sampled = set(drawn.classes) | set(drawn.too_small)
    assert len(sampled) == 3 and sampled <= set(WORDS)
    for row in drawn.rows:
        assert row["label"] in words[str(row["object"])] <= sampled
    assert Counter((row["label"], row["split"]) for row in drawn.rows) == {
        (label, split): count for label in drawn.classes for split, count in (("train", train), ("test", evaluate))
    }
    assert len({Path(str(row["path"])).read_bytes() for row in drawn.rows}) == len(drawn.rows), "no bytes twice"
    assert drawn.unmatched == sum(not words[f"p{n}"] or not words[f"p{n}"] <= sampled for n in range(40))
    assert draw(pictures[::-1], [*WORDS, "other"], choice) == drawn, "the corpus's order does not matter"


def test_of_rows_of_one_pin_the_last_counts(files: list[Path]) -> None:
    """A pin that stands twice in the catalogue is on one side, in one class, once."""
    first = [Annotated(f"p{n}", path, (WORDS[n % 2],)) for n, path in enumerate(files[:20])]
    last = [Annotated(f"p{n}", files[20 + n], (WORDS[(n + 1) % 2],)) for n in range(8)]
    drawn = draw([*first, *last], WORDS, Choice(classes=4, train=6, evaluate=4))
    words = {one.pin_id: one.annotations[0] for one in [*first, *last]}
    assert len({row["object"] for row in drawn.rows}) == len(drawn.rows) == 20
    assert all(row["label"] == words[str(row["object"])] for row in drawn.rows)


def test_pictures_that_cannot_be_read_are_listed(files: list[Path], tmp_path: Path) -> None:
    gone = Annotated("x", tmp_path / "gone.jpg", ("lamp",))
    pictures = [Annotated(f"p{n}", path, (WORDS[n % 2],)) for n, path in enumerate(files)]
    drawn = draw([gone, *pictures], WORDS, Choice(classes=4, train=3, evaluate=1))
    assert [(one.path, one.reason) for one in drawn.problems] == [(str(gone.path), "picture_unreadable")]
    assert drawn.doubled == 10


def test_the_command_builds_a_manifest_from_a_catalogue(files: list[Path], tmp_path: Path) -> None:
    rows = ["pin_id,image,annotations"] + [f'p{n},{path},"{WORDS[n % 2]}"' for n, path in enumerate(files)]
    (tmp_path / "pins.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "queries.txt").write_text("lamp\nchair\n")
    run = dotstream(
        "data", "prepare", "pins", tmp_path / "pins.csv", "--top-queries", tmp_path / "queries.txt",
        "--train", 5, "--evaluate", 2, "--out", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    pictures, problems = read_labelled(tmp_path / "out", split="test")
    assert not problems and Counter(one.label for one in pictures) == {"lamp": 2, "chair": 2}
