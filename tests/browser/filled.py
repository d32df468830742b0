"""A stage with pins that a person can tell apart by colour, for tests whose subject is the page and not the stream."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from indexer.tags import Tagged
from tests.discovery.stage import Stage, patch

SIZE = (400, 300)
PLACES = ((0.25, 0.25, 0.75, 0.75), (0.0, 0.25, 0.5, 0.75), (0.5, 0.0, 1.0, 0.5))
"""Where the patches lie: no two pictures are near-copies."""
LEFT, RIGHT = (0.06, 0.3, 0.36, 0.7), (0.64, 0.3, 0.94, 0.7)


def halves(left: str, right: str) -> bytes:
    """A PNG of two colours side by side."""
    image = Image.new("RGB", SIZE, left)
    ImageDraw.Draw(image).rectangle((SIZE[0] // 2, 0, *SIZE), fill=right)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def fill(stage: Stage) -> None:
    """`mixed` (red on the left, blue on the right, no shown dot) among red and blue ones; some can be bought."""
    for colour, words in (("red", ["art", "crimson"]), ("blue", ["art", "sea"])):
        for n in range(3):
            pin_id = f"{colour}-{n}"
            data = patch(colour, PLACES[n], size=(400 + 10 * n, 300))
            link = "https://shop.example/x" if n == 1 else "javascript:alert(1)"
            record = stage.pin(pin_id, data, annotations=words if n else words[:1], buyable=n > 0, link=link)
            stage.dots(record)
    stage.dots(stage.pin("mixed", halves("red", "blue"), annotations=["art"]), shown=False)
    stage.dots(stage.pin("red-dotted", patch("red", (0.25, 0.5, 0.75, 1.0), size=(500, 300)), annotations=["art"]))
    stage.tags.tags["red-dotted"] = [Tagged(object_index=0, box=None, product_pin_id="blue-1", event_time=1)]
