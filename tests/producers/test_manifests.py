"""Catalogues on disk: good rows become events, bad ones are told with their place and stop nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from producers.events_pb2 import PinEvent
from producers.manifests import ManifestError, count, read
from producers.rows import INLINE_LIMIT, derived_pin_id

NOW = 1_700_000_000_000


def picture(format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture())
    return path


def events_of(*paths: Path, **options: object) -> tuple[list[PinEvent], list[ManifestError]]:
    items = list(read(paths, now_ms=lambda: NOW, **options))  # type: ignore[arg-type]
    return [i for i in items if isinstance(i, PinEvent)], [i for i in items if isinstance(i, ManifestError)]


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_folder_gives_its_pictures_by_name_with_stable_ids(tmp_path: Path) -> None:
    for name in ("b/two.PNG", "b/one.jpg", "a.webp", "notes.txt", ".hidden.jpg", ".git/x.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture({"G": "PNG", "p": "WEBP"}.get(name[-1], "JPEG")))
    good, bad = events_of(tmp_path / "photos")
    assert bad == []
    assert [event.title for event in good] == ["a", "one", "two"]
    assert [event.board_id for event in good] == ["photos", "b", "b"]
    assert {event.kind for event in good} == {PinEvent.KIND_CREATED}
    assert {(event.version, event.event_time) for event in good} == {(0, NOW)}
    assert good[1].image.inline == picture()
    assert count([tmp_path / "photos"]) == 3
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").rename(tmp_path / "elsewhere" / "photos")
    again, _ = events_of(tmp_path / "elsewhere" / "photos")
    assert [event.pin_id for event in again] == [event.pin_id for event in good]
    assert len({event.pin_id for event in good}) == 3


def test_a_picture_named_alone_has_the_id_it_has_in_its_folder(photo: Path) -> None:
    alone, _ = events_of(photo)
    inside, _ = events_of(photo.parent)
    assert alone == inside
    assert alone[0].pin_id.startswith(photo.parent.name.strip("-_").replace("_", "-").lower()[:3])


@given(st.lists(st.text("aZ0 -_é#?%\u4e2d", min_size=1, max_size=8), min_size=1, max_size=3))
def test_derived_ids_can_stand_in_a_url(parts: list[str]) -> None:
    root = Path("/tmp/root")
    name = derived_pin_id(root.joinpath(*parts).with_suffix(".jpg"), root)
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_large_picture_goes_by_reference(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    path = tmp_path / "large picture.png"
    Image.fromarray(noise).save(path)
    assert path.stat().st_size > INLINE_LIMIT
    (event,), _ = events_of(path)
    assert event.image.url == path.resolve().as_uri()
    assert not event.image.inline


def test_what_is_no_picture_is_refused_with_its_name(tmp_path: Path) -> None:
    page = tmp_path / "page.jpg"
    page.write_text("<html>")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    empty = tmp_path / "empty.png"
    empty.touch()
    good, bad = events_of(page, text, empty, tmp_path / "missing.jpg")
    assert good == []
    assert [Path(error.where).name for error in bad] == ["page.jpg", "notes.txt", "empty.png", "missing.jpg"]
    assert "not a JPEG, PNG or WebP" in bad[0].reason
    assert "nor a manifest" in bad[1].reason
    assert "no such file" in bad[3].reason


def test_a_jsonl_row_in_full(tmp_path: Path, photo: Path) -> None:
    row = {
        "pin_id": "p1",
        "image": photo.name,
        "board_id": "b1",
        "title": "Red",
        "annotations": ["red", " square "],
        "category_weights": {"art": 0.75, "home": 0.25},
        "buyable": True,
        "link": "https://example.org",
        "version": "12",
        "event_time": 99,
    }
    (event,), bad = events_of(jsonl(tmp_path / "m.jsonl", [row]))
    assert bad == []
    assert event == PinEvent(
        pin_id="p1",
        kind=PinEvent.KIND_CREATED,
        version=12,
        image=PinEvent.Image(inline=picture()),
        board_id="b1",
        title="Red",
        annotations=["red", "square"],
        category_weights={"art": 0.75, "home": 0.25},
        buyable=True,
        link="https://example.org",
        event_time=99,
    )


def test_bad_rows_are_told_by_line_and_the_rest_goes_on(tmp_path: Path, photo: Path) -> None:
    good_row = {"pin_id": "good", "image": "https://example.org/a.jpg", "category": "art"}
    bad_rows: list[object] = [
        {"image": photo.name},
        {"pin_id": "p", "image": "nowhere.jpg"},
        {"pin_id": "p"},
        {"pin_id": "p", "image": photo.name, "anotations": []},
        {"pin_id": "p", "image": photo.name, "buyable": "perhaps"},
        {"pin_id": "p", "image": photo.name, "annotations": [1]},
        {"pin_id": "p", "image": photo.name, "category_weights": {"a": "b"}},
        {"pin_id": "p", "image": photo.name, "category_weights": [1]},
        {"pin_id": "p", "image": photo.name, "category": "a", "category_weights": {"a": 1}},
        {"pin_id": "p", "image": photo.name, "version": "soon"},
        {"pin_id": "p", "image": photo.name, "event_time": -1},
        {"pin_id": ["p"], "image": photo.name},
        {"pin_id": "\ud800", "image": photo.name},
        {"pin_id": "p", "image": "bad\0path.jpg"},
        [1, 2],
    ]
    path = jsonl(tmp_path / "m.jsonl", [good_row, *bad_rows, good_row])
    with path.open("ab") as file:
        file.write(b"\n{\xff}\n{broken\n" + json.dumps(good_row).encode())
    good, bad = events_of(path)
    assert [event.pin_id for event in good] == ["good"] * 3
    assert good[0].category_weights == {"art": 1.0}
    lines = [*range(2, len(bad_rows) + 2), len(bad_rows) + 4, len(bad_rows) + 5]
    assert [error.where for error in bad] == [f"{path}:{line}" for line in lines]
    assert all(error.reason for error in bad)
    assert "anotations" in bad[3].reason
    assert count([path]) == 3 + len(bad)


def test_csv(tmp_path: Path, photo: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "\ufeffpin_id,image,annotations,category,buyable,title\n"
        'p1,photo.jpg,red|blue,art,yes,"two\nlines"\n'
        "p2,photo.jpg,,,,\n"
        "p3,photo.jpg,red\n"
        'p4,photo.jpg,"[""a|b""]",,,\n'
    )
    good, bad = events_of(path)
    assert [event.pin_id for event in good] == ["p1", "p2", "p4"]
    assert list(good[0].annotations) == ["red", "blue"]
    assert (good[0].buyable, good[0].title) == (True, "two\nlines")
    assert list(good[2].annotations) == ["a|b"]
    assert [error.where for error in bad] == [f"{path}:5"]


def test_csv_with_a_wrong_header_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("pin,image\np1,a.jpg\n")
    good, bad = events_of(path)
    assert good == []
    assert [error.where for error in bad] == [f"{path}:1"]
    assert "unknown column pin" in bad[0].reason


def test_a_file_that_breaks_off_is_told(tmp_path: Path, photo: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"pin_id,image\np1,photo.jpg\np2,\xff.jpg\n")
    _, bad = events_of(path, photo)
    assert [error.where for error in bad] == [str(path)]
    broken = tmp_path / "m.parquet"
    broken.write_bytes(b"PAR1 no")
    good, bad = events_of(broken, photo)
    assert [error.where for error in bad] == [str(broken)]
    assert len(good) == 1
    assert count([broken, photo]) == 1


def test_parquet_with_typed_columns(tmp_path: Path, photo: Path) -> None:
    table = pa.table(
        {
            "pin_id": pa.array(["p1", "p2", None]),
            "image": pa.array([str(photo), "https://x.org/a.png", "https://x.org/b.png"]),
            "annotations": pa.array([["red"], None, []], pa.list_(pa.string())),
            "category_weights": pa.array([{"art": 0.5}, None, None], pa.map_(pa.string(), pa.float32())),
            "buyable": pa.array([True, None, False]),
            "version": pa.array([3, None, 4], pa.int64()),
        }
    )
    path = tmp_path / "m.parquet"
    pq.write_table(table, path)
    good, bad = events_of(path)
    assert [(event.pin_id, event.version, event.buyable) for event in good] == [("p1", 3, True), ("p2", 0, False)]
    assert good[0].category_weights == {"art": 0.5}
    assert good[1].image.url == "https://x.org/a.png"
    assert [error.where for error in bad] == [f"{path}:3"]
    assert count([path]) == 3


def test_deletes_need_only_ids(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "m.jsonl", [{"pin_id": "p1"}, {"pin_id": "p2", "image": "gone.jpg", "version": 8}])
    good, bad = events_of(path, kind=PinEvent.KIND_DELETED, version=5)
    assert bad == []
    assert [(event.pin_id, event.version, event.HasField("image")) for event in good] == [
        ("p1", 5, False),
        ("p2", 8, False),
    ]
    assert {event.kind for event in good} == {PinEvent.KIND_DELETED}
