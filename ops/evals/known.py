"""An index of labelled scenes to ask, filled by the stream's own code without a broker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from discovery.crops import Crops
from discovery.eyes import TritonEyes
from indexer.reader import IndexReader
from indexer.search import warm
from ops.commands.options import say
from ops.evals.scenes import Scene
from ops.models import code_bits, picture_limits, triton_client, vision_settings
from ops.private_index import GENERATION, Writer, private_settings, private_triton
from triton_models.calls import Unobserved
from triton_models.pipeline import Vision

TELL_EVERY = 50


@dataclass(frozen=True)
class Asked:
    """An index of scenes, and what questions are asked with.

    Attributes:
        scenes: pin_id -> scene, of those that are indexed.
        crops: over the same models.
    """

    scenes: dict[str, Scene]
    reader: IndexReader
    writer: Writer
    crops: Crops


@contextmanager
def indexed(scenes: Sequence[Scene]) -> Iterator[Asked]:
    """Looks at the scenes with real Triton and indexes them, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="dotstream-eval-") as folder, ExitStack() as owned:
        data = Path(folder)
        settings = private_settings(data, owned.enter_context(private_triton(data)))
        client = triton_client(settings, Unobserved())
        owned.callback(client.close)
        bits = code_bits(settings)
        vision = Vision(client, vision_settings(settings))
        writer = Writer(data, bits, "eval/codes")
        owned.callback(writer.close)
        for at, scene in enumerate(scenes, 1):
            writer.photograph(
                scene.pin_id,
                scene.path.read_bytes(),
                vision,
                annotations=sorted(scene.labels),
                categories=scene.categories(),
            )
            if at % TELL_EVERY == 0:
                say(f"{at} of {len(scenes)} scenes are indexed")
        reader = writer.reader("eval", lease_s=3600.0)
        owned.callback(reader.close)
        warm(bits)
        reader.refresh()
        crops = Crops(TritonEyes(client, vision_settings(settings), picture_limits(settings)), GENERATION)
        yield Asked({scene.pin_id: scene for scene in scenes}, reader, writer, crops)
