"""The evaluations of discovery on a few drawn scenes through real Triton, and the load of the API's benchmark."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from dotstream.errors import Misconfigured
from ops.bench._load import Ask, load
from ops.bench._report import Report
from ops.cli import app
from ops.evals import flashlight, lens, objects
from ops.evals.scenes import Scene, Thing, read_scenes

KINDS = {1: ("Disc", "round"), 2: ("Square", "straight")}


def draw(folder: Path, count: int) -> Path:
    """Scenes with a disc or a square, of one thing each four times over."""
    images = folder / "test" / "images"
    images.mkdir(parents=True)
    content: dict[str, Any] = {
        "categories": [{"id": n, "name": name, "supercategory": group} for n, (name, group) in KINDS.items()],
        "images": [],
        "annotations": [],
    }
    for number in range(count):
        kind = 1 + number % 2
        image = Image.new("RGB", (320, 240), (40 + 9 * number, 90, 120))
        x, y = 40 + 8 * number, 60
        shape = ImageDraw.Draw(image)
        colour = (200, 30 * (number % 4), 40)
        (shape.ellipse if kind == 1 else shape.rectangle)((x, y, x + 120, y + 110), fill=colour)
        image.save(images / f"{number}.jpg")
        content["images"].append({"id": number, "file_name": f"{number}.jpg", "width": 320, "height": 240})
        content["annotations"].append(
            {"image_id": number, "category_id": kind, "bbox": [x, y, 120, 110], "model": f"{kind}/{number % 4}"}
        )
    content["images"].append({"id": 99, "file_name": "none.jpg", "width": 10, "height": 10})
    (folder / "test" / "annotations.json").write_text(json.dumps(content))
    return folder


def test_scenes_are_read_with_what_is_known_of_them(tmp_path: Path) -> None:
    first = read_scenes(draw(tmp_path, 6), "test", 5)[0]
    assert len(read_scenes(tmp_path, "test", None)) == 6, "a picture without things is left out"
    assert first.things == (Thing((0.125, 0.25, 0.5, 170 / 240), "Disc", "round", "1/0"),)
    assert first.categories() == {"round": 1.0}
    assert first.shown((0.13, 0.26, 0.5, 0.7)) == first.things[0]
    assert first.shown((0.7, 0.0, 1.0, 0.2)) is None
    for bad in ("nowhere", "test/images"):
        with pytest.raises(Misconfigured, match=r"COCO's format"):
            read_scenes(tmp_path / bad, "test", None)


def test_categories_follow_area() -> None:
    things = (Thing((0, 0, 0.5, 1), "a", "x", ""), Thing((0.5, 0, 1, 0.5), "b", "y", ""))
    assert Scene("s", Path("s"), things).categories() == {"x": pytest.approx(2 / 3), "y": pytest.approx(1 / 3)}


@pytest.mark.parametrize("run", [flashlight.run, objects.run, lens.run])
def test_one_scene_is_no_evaluation(tmp_path: Path, run: Callable[..., Report]) -> None:
    with pytest.raises(Misconfigured):
        run(draw(tmp_path, 1), "test", most=9, queries=9, seed=0)


@pytest.mark.parametrize("name", ["flashlight", "objects", "lens"])
def test_an_evaluation_prints_the_contracts_object(tmp_path: Path, exported_repository: Path, name: str) -> None:
    data = draw(tmp_path / "data", 12)
    (tmp_path / "dotstream.toml").write_text(f'[triton]\nrepository = "{exported_repository}"\n')
    arguments = ["--config", str(tmp_path / "dotstream.toml"), "eval", name, str(data), "--queries", "6", "--json"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["name"] == name
    assert found["conditions"]["queries"] >= 3
    shares = {n: f["value"] for n, f in found["figures"].items() if f["unit"].startswith("share")}
    assert shares
    assert all(0 <= value <= 1 for value in shares.values())


class Slow(BaseHTTPRequestHandler):
    """Answers at once; every fifth question is a problem."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        bad = type(self).asked % 5 == 0
        body = b'{"type": "/problems/busy"}' if bad else b""
        self.send_response(503 if bad else 200)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_a_load_keeps_its_rate_and_counts_errors() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        found = load(address, lambda n: Ask("POST", f"/{n}", b"x"), rate=50, seconds=0.4, connections=1)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(found.times) == 20
    assert found.failures == {"503 /problems/busy": 4}
    refused = load("http://127.0.0.1:9", lambda _: Ask("GET", "/"), rate=20, seconds=0.1, connections=1)
    assert refused.failures == {"no answer: ConnectionRefusedError": 2}
