"""`dotstream publish`: what a person's rows become in Kafka, and what is said about those that become nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dotstream.clock import ManualClock
from dotstream.errors import Misconfigured, Poison, Unavailable
from ops.cli import app
from ops.commands.publish import Summary, publish_all, refuse_unreadable, stack_roots
from ops.local.claim import claimed, write_stack
from ops.local.kafka import KafkaProcess
from ops.settings import Settings
from ops.topics import TopicNames
from producers.events import check_engagement, check_pin, check_save
from producers.events_pb2 import EngagementEvent, PinEvent, SaveEvent, TagEvent
from producers.headers import read_header, read_kind
from producers.manifests import ManifestError
from producers.publisher import Failure, Undelivered
from tests.support.kafka import read_topic


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (number * 40, 0, 0)).save(folder / f"{number}.jpg")
    return folder


def run(broker: KafkaProcess, topics: TopicNames, *arguments: object) -> Result:
    words = ["publish", *map(str, arguments), "--kafka", broker.bootstrap, "--prefix", topics.prefix]
    return CliRunner().invoke(app, words)


def events_in(broker: KafkaProcess, topic: str, count: int) -> list[PinEvent]:
    records = read_topic(broker.connection, topic, count)
    return [check_pin(record.key(), record.value(), record.timestamp()[1]) for record in records]


def test_a_folder_becomes_created_pins(broker: KafkaProcess, topics: TopicNames, photos: Path) -> None:
    result = run(broker, topics, photos, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["published"], facts["refused"], facts["undelivered"], facts["stopped"]) == (3, [], [], None)
    found = {event.title: event for event in events_in(broker, topics.events.pins, 3)}
    assert {title: event.image.inline for title, event in found.items()} == {
        path.stem: path.read_bytes() for path in photos.iterdir()
    }
    assert all(event.version == event.event_time > 0 for event in found.values())
    record = read_topic(broker.connection, topics.events.pins, 1)[0]
    assert read_kind(record.headers()) == "created"
    assert read_header(record.headers(), "ce_source") == "/dotstream/publish"


def test_updates_go_out_as_updates_under_the_given_version(
    broker: KafkaProcess, topics: TopicNames, photos: Path
) -> None:
    result = run(broker, topics, photos / "0.jpg", "--update", "--version", 42)
    assert result.exit_code == 0
    assert "1 event published" in result.stderr
    (event,) = events_in(broker, topics.events.pins, 1)
    assert (event.kind, event.version) == (PinEvent.KIND_UPDATED, 42)


def test_deletes_by_id_and_by_manifest(broker: KafkaProcess, topics: TopicNames, tmp_path: Path) -> None:
    (tmp_path / "gone.csv").write_text("pin_id\nfrom-manifest\n")
    result = run(broker, topics, tmp_path / "gone.csv", "--delete", "--pin-id", "p1", "--pin-id", "p2")
    assert result.exit_code == 0
    events = events_in(broker, topics.events.pins, 3)
    assert {event.pin_id for event in events} == {"p1", "p2", "from-manifest"}
    assert {event.kind for event in events} == {PinEvent.KIND_DELETED}


def test_logs_of_saves_and_engagements(broker: KafkaProcess, topics: TopicNames, tmp_path: Path) -> None:
    (tmp_path / "saves.csv").write_text("pin_id,board_id\np1,b1\np2,b1\n")
    (tmp_path / "seen.jsonl").write_text('{"pin_id": "p1", "kind": "closeup", "request_id": "r"}\n')
    assert run(broker, topics, tmp_path / "saves.csv", "--topic", "saves").exit_code == 0
    assert run(broker, topics, tmp_path / "seen.jsonl", "--topic", "engagements").exit_code == 0
    saves = read_topic(broker.connection, topics.events.saves, 2)
    assert [check_save(r.key(), r.value(), 0).pin_id for r in saves] == ["p1", "p2"]
    (seen,) = read_topic(broker.connection, topics.events.engagements, 1)
    assert check_engagement(seen.key(), seen.value(), 0).request_id == "r"
    assert run(broker, topics, tmp_path / "saves.csv", "--topic", "saves", "--update").exit_code == 2


def test_bad_rows_are_named_and_fail_the_command_but_not_the_rest(
    broker: KafkaProcess, topics: TopicNames, photos: Path
) -> None:
    manifest = photos / "pins.jsonl"
    rows = [{"pin_id": "good", "image": "0.jpg"}, {"image": "0.jpg"}, {"pin_id": "x", "image": "none.jpg"}]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(broker, topics, manifest, "--topic", "pins.backfill")
    assert result.exit_code == 1
    assert f"refused {manifest}:2: pin_id is empty" in result.stderr
    assert f"refused {manifest}:3: image none.jpg" in result.stderr
    assert "1 event published" in result.stderr
    assert "2 refused" in result.stderr
    assert [event.pin_id for event in events_in(broker, topics.events.pins_backfill, 1)] == ["good"]


def test_a_missing_topic_is_said_before_anything_is_read(broker: KafkaProcess, photos: Path) -> None:
    result = run(broker, TopicNames("nowhere."), photos)
    assert isinstance(result.exception, Misconfigured)
    assert "no topic nowhere.pins" in str(result.exception)


@pytest.mark.parametrize(
    "arguments", [[], ["--pin-id", "p"], ["a.jpg", "--update", "--delete"], ["a.jpg", "--rate", "0"]]
)
def test_words_that_make_no_sense(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["publish", *arguments]).exit_code == 2


class Sink:
    """A publisher that raises what it is told to, once each, and else takes everything."""

    def __init__(self, *, pins: tuple[BaseException | None, ...] = (), flush: BaseException | None = None) -> None:
        self.taken: list[str] = []
        self._pins = list(pins)
        self._flush = flush

    @property
    def delivered(self) -> int:
        return len(self.taken)

    def pin(self, event: PinEvent, *, topic: str | None = None) -> None:
        error = self._pins.pop(0) if self._pins else None
        if error is not None:
            raise error
        self.taken.append(event.pin_id)

    def save(self, event: SaveEvent, *, topic: str | None = None) -> None:
        self.taken.append(event.board_id)

    def engagement(self, event: EngagementEvent, *, topic: str | None = None) -> None:
        self.taken.append(event.pin_id)

    def tag(self, event: TagEvent, *, topic: str | None = None) -> None:
        self.taken.append(event.product_pin_id)

    def flush(self, limit_s: float) -> None:
        if self._flush is not None:
            raise self._flush


def undelivered(*keys: str) -> Undelivered:
    return Undelivered(tuple(Failure("pins", key, Unavailable("gone")) for key in keys))


def publish_three(sink: Sink, *, rate: float | None = None, clock: ManualClock | None = None) -> Summary:
    items: Iterator[PinEvent | ManifestError] = iter([PinEvent(pin_id=name) for name in "abc"])
    return publish_all(sink, items, topic="pins", rate=rate, clock=clock or ManualClock(), seen=lambda _: None)


def test_a_rate_spreads_events_evenly() -> None:
    clock = ManualClock()
    summary = publish_three(Sink(), rate=4, clock=clock)
    assert clock.monotonic() == pytest.approx(0.5)
    assert summary.seconds == pytest.approx(0.5)
    assert summary.good


def test_news_of_an_earlier_loss_does_not_lose_the_event_at_hand() -> None:
    sink = Sink(pins=(None, undelivered("a")))
    summary = publish_three(sink)
    assert sink.taken == ["a", "b", "c"]
    assert summary.undelivered == [("a", "gone")]
    assert not summary.good


def test_an_absent_broker_ends_the_reading_and_names_what_is_lost() -> None:
    sink = Sink(pins=(None, Unavailable("queue full")), flush=undelivered("a"))
    summary = publish_three(sink)
    assert summary.stopped == "queue full"
    assert summary.undelivered == [("b", "queue full"), ("a", "gone")]
    assert summary.read == 2


def test_an_interrupt_still_waits_for_what_is_on_its_way() -> None:
    summary = publish_three(Sink(pins=(None, KeyboardInterrupt())))
    assert (summary.stopped, summary.published) == ("interrupted", 1)
    assert not summary.good


def test_an_event_that_no_topic_takes_is_refused_by_its_pin() -> None:
    summary = publish_three(Sink(pins=(Poison("too_large", "too large"),)))
    assert [str(error) for error in summary.refused] == ["a: too large"]
    assert summary.published == 2


def test_a_large_picture_is_published_by_reference(broker: KafkaProcess, topics: TopicNames, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((1200, 1200), 100).save(buffer, "PNG")
    path = tmp_path / "large.png"
    path.write_bytes(buffer.getvalue())
    assert len(buffer.getvalue()) > 1 << 20
    assert run(broker, topics, path).exit_code == 0
    assert events_in(broker, topics.events.pins, 1)[0].image.url == path.as_uri()


def test_a_picture_that_the_local_stack_may_not_read_is_refused_at_once(tmp_path: Path) -> None:
    inside, outside = tmp_path / "home" / "a b.png", tmp_path / "else" / "b.png"
    (tmp_path / "else").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link.png").symlink_to(outside)
    urls = [path.as_uri() for path in (inside, outside, tmp_path / "home" / "link.png")]
    events = [
        PinEvent(pin_id=str(n), image=PinEvent.Image(url=url)) for n, url in enumerate([*urls, "https://a/b.png"])
    ]
    roots = [(tmp_path / "home").resolve()]
    found = list(refuse_unreadable(events, roots))
    assert [isinstance(item, ManifestError) for item in found] == [False, True, True, False]
    assert f"reads files only below {roots[0]}" in str(found[1])
    assert list(refuse_unreadable(events, None)) == events


def test_the_roots_are_those_of_the_stack_that_gets_the_events(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data": tmp_path, "kafka": {"bootstrap": "127.0.0.1:1"}})
    assert stack_roots(settings) is None
    with claimed(tmp_path):
        write_stack(tmp_path, {"kafka": "127.0.0.1:1", "file_roots": [str(tmp_path)]})
        assert stack_roots(settings) == [tmp_path.resolve()]
        write_stack(tmp_path, {"kafka": "127.0.0.1:2", "file_roots": [str(tmp_path)]})
        assert stack_roots(settings) is None
