"""Every setting of dotstream, declared once: name, type, default, limits and what it is for.

`ops/settings.py` fills these models from the command line, environment, file and running stack; `dotstream config show`
prints them with the texts below. Core code never sees them: ops hands it plain values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from dotstream.errors import Misconfigured
from indexer.dot_rule import Preset
from producers.kafka import KafkaConnection

if TYPE_CHECKING:
    from ops.topics import TopicSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,/\[\]]+):([0-9]{1,5})")
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


def _words(value: object) -> object:
    """Lists may be written `a,b` in the environment, and as arrays in the file."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def is_address(text: str) -> bool:
    """Whether the text is HOST:PORT."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[2]) < 65_536


def check_addresses(*, kafka: str | None, triton: str | None) -> None:
    """Refuses what is no address before anything is started with it.

    Raises:
        Misconfigured: the message says which and how it should look.
    """
    if kafka and not all(is_address(one.strip()) for one in kafka.split(",")):
        raise Misconfigured(f"{kafka!r} is no Kafka address: HOST:PORT, several joined by commas")
    if triton and not is_address(triton):
        raise Misconfigured(f"{triton!r} is no Triton address: HOST:PORT of its gRPC")


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Ports = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_words)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Section(BaseModel):
    """A group of settings: frozen, and a name that is not declared is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kafka(Section):
    bootstrap: str = Field(
        default="", description="host:port of the brokers, joined by commas; empty: the local stack's"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how clients are let in"
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="", description="with SASL_*"
    )
    sasl_username: str = Field(default="", description="with SASL_*")
    sasl_password_file: Path | None = Field(
        default=None, description="file that holds the password; it is never logged"
    )
    ca_file: Path | None = Field(
        default=None, description="PEM of the authority that signed the brokers; none: the system's"
    )
    certificate_file: Path | None = Field(default=None, description="PEM of this client's certificate")
    key_file: Path | None = Field(default=None, description="PEM of this client's key")
    key_password_file: Path | None = Field(
        default=None, description="file that holds the key's password; it is never logged"
    )
    session_timeout_s: Seconds = Field(
        default=10.0, description="after so long without a sign a worker has left its group"
    )

    def connection(self) -> KafkaConnection:
        """What producers, consumers and administration connect with; reads the files of secrets.

        Raises:
            Misconfigured: there is no address, or a file cannot be read.
        """
        if not self.bootstrap:
            raise Misconfigured("no Kafka address: start a local stack (dotstream up) or set kafka.bootstrap")
        check_addresses(kafka=self.bootstrap, triton=None)
        security = {
            "security.protocol": "" if self.security_protocol == "PLAINTEXT" else self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": _secret("kafka.sasl_password_file", self.sasl_password_file),
            "ssl.ca.location": str(self.ca_file or ""),
            "ssl.certificate.location": str(self.certificate_file or ""),
            "ssl.key.location": str(self.key_file or ""),
            "ssl.key.password": _secret("kafka.key_password_file", self.key_password_file),
        }
        return KafkaConnection(self.bootstrap, {name: value for name, value in security.items() if value})


def _secret(name: str, path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as error:
        raise Misconfigured(f"{name}: cannot read {path} ({error.strerror})") from error


class Topics(Section):
    prefix: str = Field(default="", description="put before the name of every topic, group and transactional id")
    event_partitions: Count = Field(default=4, description="of pins and pins.backfill")
    keyed_partitions: Count = Field(
        default=4, description="of saves, engagements, tags and pairs, which are kept by key; never changes"
    )
    record_partitions: Count = Field(default=4, description="of objects.<generation> and dots; never changes in one")
    event_retention_hours: Count = Field(default=168, description="how long the event topics are kept")
    dead_retention_hours: Count = Field(default=720, description="how long dead letters are kept")
    replication: Count = Field(default=1, description="copies of each partition; 3 in production")
    min_insync: Count = Field(default=1, description="copies that must have a record before it counts; 2 in production")

    def plan(self) -> TopicSettings:
        """What ops/topics.py creates topics by."""
        from ops.topics import TopicSettings

        return TopicSettings(
            prefix=self.prefix,
            event_partitions=self.event_partitions,
            keyed_partitions=self.keyed_partitions,
            record_partitions=self.record_partitions,
            event_retention_ms=self.event_retention_hours * 3_600_000,
            dead_retention_ms=self.dead_retention_hours * 3_600_000,
            replication=self.replication,
            min_insync=self.min_insync,
        )


class Triton(Section):
    address: str = Field(default="", description="host:port of Triton's gRPC; empty: the local stack's server")
    detector: str = Field(
        default="ssd_mobilenet_v2", description="model that gives boxes, labels and scores: NAME or NAME@VERSION"
    )
    embedder: str = Field(
        default="efficientnet_lite0", description="model that gives binary codes: NAME or NAME@VERSION"
    )
    extra_features: Words = Field(
        default=(),
        description="codes for re-ranking beside the embedder's: MODEL or MODEL@VERSION, /OUTPUT behind it for another "
        "output than codes; Related Pins compares by the first that two pins share",
    )
    repository: Path | None = Field(
        default=None, description="model repository with the cards of the served models; none: triton_models/repository"
    )
    deadline_s: Seconds = Field(default=10.0, description="time limit of one call to a model")
    shared_memory: bool | None = Field(default=None, description="pictures by shared memory; none: when on loopback")

    @property
    def co_located(self) -> bool:
        """Whether pictures go by shared memory: as set, else when the address is of this machine."""
        return self.address.startswith(_LOOPBACK) if self.shared_memory is None else self.shared_memory


class Pictures(Section):
    store: str = Field(
        default="", description="URL of the store (file:///…, s3://…, memory://); empty: in the data folder"
    )
    max_bytes: Count = Field(default=20_000_000, description="largest picture file")
    max_pixels: Count = Field(default=40_000_000, description="most pixels of one picture")
    max_side: Count = Field(default=16_384, description="longest side in pixels")
    min_side: Count = Field(default=8, description="shortest side in pixels")


class Fetch(Section):
    schemes: Words = Field(default=("https",), description="allowed in picture URLs: https, http, file, s3")
    hosts: Words = Field(default=(), description="only these hosts, or all when empty")
    ports: Ports = Field(default=(443,), description="allowed ports of http and https")
    buckets: Words = Field(default=(), description="buckets from which object-store keys may be read")
    file_roots: Words = Field(default=(), description="folders below which file URLs may point")
    private_networks: bool = Field(default=False, description="allow hosts whose addresses are not global")
    timeout_s: Seconds = Field(default=10.0, description="for one picture, redirects included")


class Vision(Section):
    input: Literal["pins", "pins.backfill"] = Field(default="pins", description="topic whose events are looked at")
    batch_max: Count = Field(default=16, description="events in one batch and transaction")
    concurrency: Count = Field(default=3, description="batches worked on at once")
    window: Count = Field(
        default=6, description="batches in flight, the finished ones that wait for their turn included"
    )
    prepare_threads: Count = Field(default=4, description="threads that fetch and decode pictures")
    detection_threshold: Share = Field(default=0.3, description="objects below this score are left out")
    max_objects: Count = Field(default=16, description="objects kept of one picture, best first")
    crop_margin: Share = Field(default=0.0, description="share of an object's box added on each side of its crop")


class Index(Section):
    segment_slots: Count = Field(default=65_536, description="codes in one segment file")
    batch_max: Count = Field(default=512, description="records applied in one commit")
    lease_s: Seconds = Field(default=5.0, description="a reader that has not renewed for so long refuses to answer")
    lock_limit_s: Seconds = Field(default=10.0, description="how long a shard's former owner is waited for")
    compact_every_s: Seconds = Field(default=5.0, description="pause between looks for segments worth compacting")
    compact_dead_share: Share = Field(default=0.25, description="dead slots of a segment from which it is compacted")
    search_threads: Count = Field(default=2, description="threads that share one search of a large index")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where exact searches run; auto: on an NVIDIA GPU when there is one"
    )
    device_bytes: Count = Field(
        default=4 << 30, description="memory that each process that searches may use on the GPU"
    )
    approximate: bool = Field(
        default=False, description="the API searches approximately, by inverted lists, on the CPU"
    )
    probe_share: float = Field(
        default=0.04,
        gt=0,
        le=1,
        description="share of the codes, in the lists nearest to the query, that an approximate search looks into",
    )
    recall_every: Count = Field(default=100, description="of so many approximate searches one is checked")

    @model_validator(mode="after")
    def _approximate_is_for_the_cpu(self) -> Self:
        if self.approximate and self.device == "cuda":
            raise ValueError(
                "approximate searches run on the CPU, so index.approximate does not go together with "
                'index.device = "cuda"; set approximate to false, or device to "auto" or "cpu"'
            )
        return self


class Dots(Section):
    batch_max: Count = Field(default=64, description="object records decided on in one transaction")
    neighbours: Count = Field(default=25, description="results of which the signals are made")
    preset: Preset = Field(
        default="visual-annotation",
        description="signals that are asked for, a row of the paper's Table 5 (indexer/dot_rule.py)",
    )
    score: Share = Field(default=0.3, description="least detector score of a dot, beside the preset's signals")
    similarity: Share = Field(default=0.75, description="least similarity of the nearest result")
    annotation: Annotated[float, Field(ge=0)] = Field(default=1.1, description="least score of the best annotation")
    conformity: Share = Field(default=0.5, description="least share of one category among the results")
    cold_start_min_objects: Annotated[int, Field(ge=0)] = Field(
        default=1_000, description="with fewer objects in the index dots are shown by detector score"
    )
    cold_start_score: Share = Field(default=0.7, description="least detector score of a dot in cold start")
    again_per_s: Annotated[float, Field(ge=0)] = Field(
        default=50.0, description="pins whose dots are decided again in a second, at most, by each worker; 0: none"
    )


class Crops(Section):
    batch_max: Count = Field(default=1_000, description="engagement events applied in one commit")
    people: Annotated[int, Field(ge=2)] = Field(
        default=5, description="distinct people whose crops must agree before their box is an object of the pin"
    )
    overlap: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.6, description="intersection over union from which two crops are of the same thing"
    )
    max_objects: Annotated[int, Field(ge=0, le=16)] = Field(default=4, description="objects from crops on one pin")


class Saves(Section):
    batch_max: Count = Field(default=4_000, description="save events applied in one commit")
    board_pins: Count = Field(default=256, description="pins that a board keeps, its newest")
    pin_boards: Count = Field(default=256, description="boards that a pin keeps, its newest")


class Related(Section):
    half_life_days: Annotated[float, Field(ge=0)] = Field(
        default=180.0, description="after so long a save counts half as much; 0: always the same"
    )
    window_days: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="saves older than this do not count; 0: all do"
    )
    boards: Count = Field(default=64, description="newest boards of a pin that are looked at")
    board_pins: Count = Field(default=128, description="newest pins of each of them")
    model: Path | None = Field(
        default=None, description="model file of `dotstream train related`; none: co-occurrence alone"
    )


class Discovery(Section):
    annotations: Share = Field(default=0.05, description="what shared annotations add to a result's similarity at most")
    category: Share = Field(default=0.03, description="what a shared category adds at most")
    engagement: Share = Field(default=0.10, description="what engagement for the query object adds at most")
    near_duplicate: Share = Field(
        default=0.10, description="pictures whose codes differ in at most this share of the bits are one result"
    )
    fashion_labels: Words = Field(default=(), description="labels that Similar Looks searches; empty: built in")
    fashion_categories: Words = Field(default=(), description="site categories that it searches; empty: built in")


LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


class Api(Section):
    host: str = Field(default="127.0.0.1", description="address that the API listens on")
    port: Port = Field(default=8080, description="its port; 0: a free one")
    generation: str | None = Field(default=None, description="generation that it searches; none: the active one")
    allowed_hosts: Words = Field(
        default=(), description="names that a request's Host may have; empty: any, or on loopback only its names"
    )
    max_body_bytes: Count = Field(default=20_000_000, description="largest request body")
    search_limit_s: Seconds = Field(default=8.0, description="time limit of one search, waiting included")
    searches: Count = Field(default=4, description="searches of the index at once, and as many at Triton; more wait")
    requests_per_s: Annotated[float, Field(ge=0)] = Field(
        default=50.0, description="searches and reports of one client address each second; 0: no limit"
    )
    takes_reports: bool | None = Field(
        default=None, description="whether POST /engagements and /saves publish; none: on loopback only"
    )

    @property
    def known_hosts(self) -> tuple[str, ...]:
        """As set; an API on loopback answers to its own names only, so that no foreign page can speak to it."""
        return self.allowed_hosts or (LOOPBACK if self.host in LOOPBACK else ("*",))

    @property
    def reports_taken(self) -> bool:
        """As set; unless it is, only where nobody else can reach it."""
        return self.host in LOOPBACK if self.takes_reports is None else self.takes_reports


class Worker(Section):
    slot: Annotated[int, Field(ge=0)] = Field(default=0, description="number of this worker among those of its role")
    metrics_host: str = Field(default="127.0.0.1", description="address of /metrics, /healthz and /readyz")
    metrics_port: Port = Field(default=0, description="their port; 0: a free one, which the log names")
    drain_s: Seconds = Field(default=7.0, description="time to finish what is in flight on SIGTERM")


class SettingsModel(BaseModel):
    """The whole tree. `data` and the addresses may be filled from the running local stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(default=Path(".dotstream"), description="folder of all local state")
    cache: Path | None = Field(default=None, description="cache of fetched software; none: the user's cache folder")
    generation: str = Field(default="g1", description="generation that the workers fill and the index holds")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    triton: Triton = Triton()
    pictures: Pictures = Pictures()
    fetch: Fetch = Fetch()
    vision: Vision = Vision()
    index: Index = Index()
    dots: Dots = Dots()
    crops: Crops = Crops()
    saves: Saves = Saves()
    related: Related = Related()
    discovery: Discovery = Discovery()
    api: Api = Api()
    worker: Worker = Worker()

    @field_validator("generation")
    @classmethod
    def _generation_is_a_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or len(value) > 64:
            raise ValueError("letters, digits, '.', '_' and '-', at most 64, the first a letter or digit")
        return value
