"""One full and one minimal message of every type on the wire, as written by version 1 of the contracts.

`python -m tests.contracts.messages` writes golden files for messages that have none yet; it never changes one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.message import Message

from indexer.records_pb2 import (
    Box,
    Code,
    Colour,
    DetectedObject,
    Dot,
    DotRecord,
    GenerationRecord,
    ObjectRecord,
    PairRecord,
)
from producers.events_pb2 import EngagementEvent, EventBox, PinEvent, SaveEvent, TagEvent

GOLDEN = Path(__file__).parent / "golden" / "v1"
TIME = 1_700_000_000_123

MESSAGES: dict[str, Message] = {
    "pin_event.full": PinEvent(
        pin_id="pin-ü",
        kind=PinEvent.KIND_UPDATED,
        version=1_700_000_000_124,
        image=PinEvent.Image(url="https://example.org/a.jpg"),
        board_id="board-1",
        title="A chair by the window",
        annotations=["chair", "window seat", "木"],
        category_weights={"home_decor": 0.75, "art": 0.25},
        buyable=True,
        link="https://example.org/chair",
        event_time=TIME,
    ),
    "pin_event.inline": PinEvent(
        pin_id="pin-2",
        kind=PinEvent.KIND_CREATED,
        image=PinEvent.Image(inline=b"\xff\xd8\xff\xe0 picture \x00"),
        event_time=TIME,
    ),
    "pin_event.minimal": PinEvent(pin_id="p", kind=PinEvent.KIND_DELETED, version=2**63 - 1),
    "save_event.full": SaveEvent(pin_id="pin-1", board_id="board-1", kind=SaveEvent.KIND_UNSAVED, event_time=TIME),
    "save_event.minimal": SaveEvent(pin_id="p", board_id="b", kind=SaveEvent.KIND_SAVED),
    "engagement_event.full": EngagementEvent(
        pin_id="pin-1",
        kind=EngagementEvent.KIND_CROP,
        user_id="user-1",
        request_id="request-1",
        query_pin_id="pin-0",
        query_object_index=0,
        box=EventBox(x0=0.125, y0=0.25, x1=0.5, y1=1.0),
        position=3,
        event_time=TIME,
    ),
    "engagement_event.minimal": EngagementEvent(pin_id="p", kind=EngagementEvent.KIND_IMPRESSION),
    "tag_event.full": TagEvent(
        pin_id="pin-1",
        kind=TagEvent.KIND_TAGGED,
        object_index=2,
        box=EventBox(x0=0.0, y0=0.25, x1=0.5, y1=0.75),
        product_pin_id="product-1",
        expert_id="expert-1",
        event_time=TIME,
    ),
    "tag_event.minimal": TagEvent(pin_id="p", kind=TagEvent.KIND_UNTAGGED, product_pin_id="q"),
    "object_record.full": ObjectRecord(
        pin_id="pin-1",
        version=TIME,
        revision=2,
        generation="g1",
        detector="ssd_mobilenet_v2@1",
        embedder="efficientnet_lite0@1",
        image_ref="ab/abcd",
        image_sha256=bytes(range(32)),
        image_width=640,
        image_height=480,
        codes=[
            Code(feature="efficientnet_lite0@1/features", bits=b"\x80\x01"),
            Code(feature="vgg16@1/fc8", bits=b"\xf0"),
        ],
        objects=[
            DetectedObject(
                index=0,
                box=Box(x0=0.125, y0=0.25, x1=0.5, y1=0.75),
                label="Chair",
                score=0.875,
                source=DetectedObject.SOURCE_DETECTOR,
                codes=[Code(feature="efficientnet_lite0@1/features", bits=b"\x0f\xff")],
            ),
            DetectedObject(
                index=1, box=Box(x1=1.0, y1=1.0), label="", score=0.0, source=DetectedObject.SOURCE_CROPS, codes=[]
            ),
        ],
        colours=[Colour(rgb=0xC81E1E, share=0.5), Colour(rgb=0, share=0.25)],
        board_id="board-1",
        title="A chair",
        annotations=["chair", "wood"],
        category_weights={"home_decor": 1.0},
        buyable=True,
        link="https://example.org",
        event_time=TIME,
        recorded_at=TIME + 50,
    ),
    "object_record.minimal": ObjectRecord(pin_id="p", version=1, deleted=True, generation="g1"),
    "dot_record.full": DotRecord(
        pin_id="pin-1",
        version=TIME,
        generation="g1",
        epoch=3,
        decision=1,
        dots=[
            Dot(
                object_index=0,
                x=0.3125,
                y=0.5,
                label="Chair",
                shown=True,
                similarity=0.875,
                annotation_score=2.5,
                category_conformity=0.75,
                reasons=[Dot.REASON_SIGNALS],
            ),
            Dot(
                object_index=1,
                x=0.5,
                y=0.5,
                reasons=[
                    Dot.REASON_LOW_SCORE,
                    Dot.REASON_LOW_SIMILARITY,
                    Dot.REASON_LOW_ANNOTATION,
                    Dot.REASON_LOW_CONFORMITY,
                ],
            ),
            Dot(object_index=2, shown=True, reasons=[Dot.REASON_COLD_START]),
        ],
        witnesses=["pin-2", "pin-3"],
        watermark={0: 10, 1: -1, 3: 2**40},
        decided_at=TIME + 90,
    ),
    "dot_record.sized": DotRecord(  # the field joined after the first release
        pin_id="pin-1", version=TIME, generation="g1", epoch=1, decision=65_538, index_objects=100_000
    ),
    "dot_record.minimal": DotRecord(pin_id="p", version=1, deleted=True, generation="g1"),
    "generation_record.full": GenerationRecord(
        name="g2",
        fingerprint=bytes(range(32, 64)),
        state=GenerationRecord.STATE_ACTIVE,
        epoch=4,
        detector="ssd_mobilenet_v2@1",
        embedder="efficientnet_lite0@2",
        bits=1280,
        partitions=4,
        changed_at=TIME,
    ),
    "generation_record.minimal": GenerationRecord(name="g1", state=GenerationRecord.STATE_BUILDING),
    "pair_record.full": PairRecord(pin_id="pin-ü", board_id="board-1", state=PairRecord.STATE_EVICTED, event_time=TIME),
    "pair_record.minimal": PairRecord(pin_id="p", board_id="b", state=PairRecord.STATE_SAVED),
}


def write_missing() -> list[Path]:
    """Writes the golden files that do not exist yet and returns them."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    paths = {GOLDEN / f"{name}.bin": message for name, message in MESSAGES.items()}
    missing = {path: message for path, message in paths.items() if not path.exists()}
    for path, message in missing.items():
        path.write_bytes(message.SerializeToString(deterministic=True))
    return list(missing)


if __name__ == "__main__":
    for written in write_missing():
        sys.stdout.write(f"{written}\n")
