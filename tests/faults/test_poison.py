"""The poison corpus and bad records of every kind through the real stack: each becomes a dead letter, nothing else."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumers.dead import PREFIX
from indexer.records import encode
from indexer.records_pb2 import Code, ObjectRecord
from producers.events_pb2 import PinEvent
from producers.publisher import Publisher
from tests.faults.conftest import rounds
from tests.faults.ledger import created, small_pictures
from tests.faults.oracle import GENERATION, OBJECTS, VISION
from tests.faults.processes import resident_bytes
from tests.faults.stack import RunningStack, running_stack
from tests.faults.state import dots_of, headers_of, lag_of, read_whole, source_of, winners_of
from tests.faults.waiting import watched
from tests.poison.corpus import Sample, samples

INLINE_LIMIT = 900_000
SETTLE_LIMIT_S = 120.0
GROWTH_LIMIT = 20 << 20
REST_S = 1.5  # longer than a worker waits before it rests and gives freed memory back

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Letter:
    """What a dead letter says."""

    key: bytes | None
    value: bytes
    reason: str
    detail: str
    headers: dict[str, bytes]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which file URLs may point."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def stack(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    settings = {"DOTSTREAM_FETCH__SCHEMES": "https,file", "DOTSTREAM_FETCH__FILE_ROOTS": str(pictures)}
    with running_stack(tmp_path_factory.mktemp("poison"), **settings) as stack:
        before = stack.workers()
        yield stack
        assert stack.workers() == before, f"a worker died of poison\n{stack.output()}"


def event(pin_id: str, *, inline: bytes = b"", url: str = "") -> PinEvent:
    made = created(pin_id, 1, inline, int(time.time() * 1000))
    if url:
        made.image.url = url
    return made


def letters_of(stack: RunningStack, topic: str = "pins.dead") -> list[Letter]:
    found = []
    for message in read_whole(stack.connection, topic).all():
        headers = headers_of(message)
        reason, detail = (headers[PREFIX + name].decode() for name in ("reason", "detail"))
        key = message.key()
        found.append(Letter(None if key is None else bytes(key), message.value() or b"", reason, detail, headers))
    return found


def settled(stack: RunningStack) -> None:
    """Until vision has seen every event and the dots have seen every record that came of it."""
    stack.until("vision is done", lambda: lag_of(stack.connection, VISION, "pins") == 0, SETTLE_LIMIT_S)

    def dotted() -> bool:
        winners = winners_of(read_well_formed(stack), GENERATION)
        dots = dots_of(stack.connection)
        return all(pin in dots and dots[pin].version == record.version for pin, record in winners.items())

    stack.until("dots are done", dotted, SETTLE_LIMIT_S, every_s=0.3)


def read_well_formed(stack: RunningStack) -> Any:
    """The records of workers, without the garbage that a test put between them."""
    committed = read_whole(stack.connection, OBJECTS)
    for messages in committed.messages.values():
        messages[:] = [message for message in messages if source_of(message)]
    return committed


def test_the_corpus(stack: RunningStack, pictures: Path, seed: int) -> None:
    """In a random order, good and bad together, again and again while the memory is watched."""
    corpus = list(samples())
    chance = random.Random(seed)
    resident = []
    for number in range(3 + rounds(3)):
        chance.shuffle(corpus)
        expected = publish_corpus(stack, pictures, corpus, f"corpus-{number}")
        settled(stack)
        check_corpus(stack, expected)
        resident.append(at_rest(stack.running("vision")))
    bad = sum(sample.reason is not None for sample in corpus)
    print(f"{bad} bad and {len(corpus) - bad} good pictures, {len(resident)} times; vision resident {resident}")
    assert bad >= 80
    assert min(resident[-3:]) - min(resident[:3]) < GROWTH_LIMIT, "memory grows with poison"


def at_rest(pid: int) -> int:
    """What a worker holds once it has given freed memory back, bytes."""
    looks: list[int] = []
    watched(lambda: looks.append(resident_bytes(pid)), REST_S)
    return min(looks)


def publish_corpus(
    stack: RunningStack, pictures: Path, corpus: list[Sample], prefix: str
) -> dict[str, tuple[Sample, PinEvent]]:
    """Inline where the contract allows it, else by file URL."""
    expected = {}
    with Publisher(stack.connection) as publisher:
        for sample in corpus:
            pin_id = f"{prefix}/{sample.name}"
            if 0 < len(sample.data) <= INLINE_LIMIT:
                made = event(pin_id, inline=sample.data)
            else:
                path = pictures / f"{abs(hash(sample.name))}.bin"
                path.write_bytes(sample.data)
                made = event(pin_id, url=path.as_uri())
            publisher.pin(made)
            expected[pin_id] = (sample, made)
    return expected


def check_corpus(stack: RunningStack, expected: dict[str, tuple[Sample, PinEvent]]) -> None:
    """Good ones are records of the right size; bad ones lie in the dead letters with their bytes and reason."""
    winners = winners_of(read_well_formed(stack), GENERATION)
    letters = {letter.key: letter for letter in letters_of(stack)}
    for pin_id, (sample, made) in expected.items():
        letter = letters.get(pin_id.encode())
        if sample.reason is None:
            assert letter is None, f"{sample.name} was refused: {letter}"
            record = winners[pin_id]
            assert (record.image_width, record.image_height) == (sample.width, sample.height), sample.name
            continue
        # A file is measured before it is read.
        reason = "fetch_too_large" if sample.reason == "picture_too_large" else sample.reason
        assert letter is not None and pin_id not in winners, f"{sample.name} passed"
        assert (letter.reason, letter.value) == (reason, made.SerializeToString(deterministic=True)), sample.name


def test_bad_events(stack: RunningStack, pictures: Path) -> None:
    """Records that no publisher of ours would send, each refused for what is wrong with it."""
    good = small_pictures(1)[0]
    now = int(time.time() * 1000)
    big = random.Random(1).randbytes(1_047_000)
    bad: dict[str, tuple[str, bytes | None, bytes | None]] = {
        "garbage": ("undecodable", b"bad/garbage", b"\xff\xfe\xfd garbage"),
        "1 MB of garbage": ("undecodable", b"bad/big", b"\xff" + big),
        "null": ("null_value", b"bad/null", None),
        "empty": ("missing_pin_id", b"bad/empty", b""),
        "wrong key": ("key_mismatch", b"bad/other", event("bad/wrong", inline=good).SerializeToString()),
        "no key": ("key_mismatch", None, event("bad/no-key", inline=good).SerializeToString()),
        "key that is no text": ("key_mismatch", b"\xff\xfe", event("bad/bytes", inline=good).SerializeToString()),
        "unknown kind": ("unknown_kind", b"bad/kind", _with("bad/kind", kind=77)),
        "no kind": ("unknown_kind", b"bad/no-kind", _with("bad/no-kind", kind=0)),
        "no version": ("missing_version", b"bad/version", _with("bad/version", version=0, event_time=0)),
        "negative version": ("bad_field", b"bad/minus", _with("bad/minus", version=-5)),
        "no image": ("missing_image", b"bad/no-image", PinEvent(
            pin_id="bad/no-image", kind=PinEvent.KIND_CREATED, version=1, event_time=now).SerializeToString()),
        "1 MB picture": ("picture_format", b"bad/mb", event("bad/mb", inline=big).SerializeToString()),
    }  # fmt: skip
    publish_raw(stack, "pins", [(key, value) for _, key, value in bad.values()])
    settled(stack)
    letters = letters_of(stack)
    for name, (reason, key, value) in bad.items():
        found = [each for each in letters if each.key == key and each.value == (value or b"")]
        assert [each.reason for each in found] == [reason], name
        assert (found[0].headers.get(PREFIX + "null") == b"1") == (value is None), name


def _with(pin_id: str, **fields: int) -> bytes:
    made = event(pin_id, inline=small_pictures(1)[0])
    for name, value in fields.items():
        setattr(made, name, value)
    return bytes(made.SerializeToString())


def test_a_value_too_large_for_its_dead_letter_keeps_coordinates_and_reason(stack: RunningStack) -> None:
    """Ten megabytes that the broker took because they are compressed."""
    value = event("bad/huge", inline=bytes(10_000_000)).SerializeToString()
    (where,) = publish_raw(stack, "pins", [(b"bad/huge", value)], **{"message.max.bytes": 20_000_000})
    settled(stack)
    (letter,) = [each for each in letters_of(stack) if each.key == b"bad/huge"]
    assert (letter.reason, letter.value) == ("picture_format", b"")
    assert letter.headers[PREFIX + "bytes-left-out"] == str(len(value)).encode()
    assert (letter.headers[PREFIX + "partition"], letter.headers[PREFIX + "offset"]) == (
        str(where[0]).encode(), str(where[1]).encode(),
    )  # fmt: skip


def publish_raw(
    stack: RunningStack, topic: str, records: list[tuple[bytes | None, bytes | None]], **settings: object
) -> list[tuple[int, int]]:
    """Writes records as they are. Returns their partitions and offsets."""
    places: list[tuple[int, int]] = []
    config = {"partitioner": "murmur2_random", "compression.type": "lz4", "message.max.bytes": 2_000_000, **settings}
    producer = Producer(stack.connection.config(**config))
    for key, value in records:

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            places.append((message.partition(), message.offset()))

        producer.produce(topic, value, key, on_delivery=delivered)
        assert producer.flush(60) == 0
    return places


def test_forbidden_and_unreachable_urls(stack: RunningStack, pictures: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(small_pictures(1)[0])
    link = pictures / "link.jpg"
    link.symlink_to(outside)
    urls = {
        "http://example.com/a.jpg": "fetch_scheme",
        "ftp://example.com/a.jpg": "fetch_scheme",
        "https://127.0.0.1/a.jpg": "fetch_address",
        "https://169.254.169.254/latest/meta-data": "fetch_address",
        "https://[::1]/a.jpg": "fetch_address",
        "https://localhost/a.jpg": "fetch_address",
        "https://user:secret@example.com/a.jpg": "fetch_user_info",
        "https://example.com:8443/a.jpg": "fetch_port",
        "https://nobody.invalid/a.jpg": "fetch_unreachable",
        "https://": "fetch_bad_url",
        "s3://somebody/a.jpg": "fetch_bucket",
        "file:///etc/hostname": "fetch_file_root",
        outside.as_uri(): "fetch_file_root",
        link.as_uri(): "fetch_file_root",
        (pictures / "nothing.jpg").as_uri(): "fetch_not_found",
    }
    with Publisher(stack.connection) as publisher:
        for number, url in enumerate(urls):
            publisher.pin(event(f"url/{number}", url=url))
    settled(stack)
    letters = {letter.key: letter for letter in letters_of(stack)}
    found = {url: letters[f"url/{n}".encode()].reason for n, url in enumerate(urls) if f"url/{n}".encode() in letters}
    assert found == urls
    assert not any("secret" in letter.detail for letter in letters.values()), "a password went into the details"


def test_dead_letters_are_listed_and_replayed(stack: RunningStack, pictures: Path) -> None:
    """A picture that comes late: dead at first, replayed once it is there; what is still bad dies again."""
    late = pictures / "late.jpg"
    with Publisher(stack.connection) as publisher:
        publisher.pin(event("late", url=late.as_uri()))
        publisher.pin(event("never", url=(pictures / "never.jpg").as_uri()))
    settled(stack)
    listed = dead_list(stack)
    (where,) = (each["where"] for each in listed if each["key"] == "late")
    (never,) = (each["where"] for each in listed if each["key"] == "never")
    assert {each["reason"] for each in listed if each["key"] in {"late", "never"}} == {"fetch_not_found"}
    shown = stack.command("dead", "show", where, "--json")
    assert shown.returncode == 0 and late.name in json.loads(shown.stdout)["event"], shown
    late.write_bytes(small_pictures(1)[0])
    done = stack.command("dead", "replay", where, never)
    assert (done.returncode, done.stdout.strip()) == (0, "2 published again"), done
    settled(stack)
    assert "late" in winners_of(read_well_formed(stack), GENERATION)
    again = [each["key"] for each in dead_list(stack)]
    assert (again.count("late"), again.count("never")) == (1, 2)


def dead_list(stack: RunningStack) -> list[dict[str, Any]]:
    answer = stack.command("dead", "list", "--topic", "pins", "--json")
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def test_garbage_among_the_records(stack: RunningStack) -> None:
    """The index worker alone dead-letters it; index and dots go on behind it."""
    whole = ObjectRecord(
        pin_id="o/bits", version=1, generation=GENERATION, image_sha256=bytes(32), codes=[Code(feature="f", bits=b"x")]
    )
    bad: dict[str, tuple[bytes | None, bytes | None]] = {
        "undecodable": (b"o/garbage", b"\xff\xfe garbage"),
        "key_mismatch": (b"o/other", encode(ObjectRecord(pin_id="o/mine", version=1, generation=GENERATION))),
        "wrong_generation": (b"o/gen", encode(ObjectRecord(pin_id="o/gen", version=1, generation="g9", deleted=True))),
        "missing_version": (b"o/version", encode(ObjectRecord(pin_id="o/version", generation=GENERATION))),
        "wrong_bits": (b"o/bits", encode(whole)),
        "bad_field": (b"\xff\xfe", None),
    }
    harmless: list[tuple[bytes | None, bytes | None]] = [(b"o/unknown", None)]
    publish_raw(stack, OBJECTS, [*bad.values(), *harmless, *bad.values()])
    with Publisher(stack.connection) as publisher:
        for number in range(8):
            publisher.pin(event(f"behind/{number}", inline=small_pictures(8)[number]))
    settled(stack)
    letters = letters_of(stack, f"{OBJECTS}.dead")
    assert sorted(
        (each.reason, each.key, each.value) for each in letters if each.key in {k for k, _ in bad.values()}
    ) == (sorted((reason, key, value or b"") for reason, (key, value) in bad.items() for _ in range(2)))
    dots = dots_of(stack.connection)
    assert all(f"behind/{number}" in dots for number in range(8))
