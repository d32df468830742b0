"""A real single-node Kafka broker on this machine, for the local stack and for tests.

`ensure_jars` brings the software, `start` runs a broker in a folder of its own:

    server.properties   written at each start
    data/               the log; `data/meta.properties` holds the cluster's id
    kafka.log           what the broker says
    kafka.pid           process id of the broker that was started last

A broker that is started again in its folder takes its former ports if they are free, so that clients find it again.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from dotstream.errors import DotstreamError, Fatal, Misconfigured, Unavailable
from ops.local.kafka_jars import Progress, archive_of, fetch_jars, home_of, java, java_version, locked
from ops.local.ports import LOOPBACK, free_ports, is_free
from producers.kafka import KafkaConnection

__all__ = ["KafkaProcess", "ensure_jars", "start"]

_HEAP = ("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOG_LIMIT = 16 << 20

# Single node: everything that is replicated elsewhere has one replica here. Topics set their own size limits.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "message.max.bytes": str(2 << 20),
    "log.cleaner.dedupe.buffer.size": str(32 << 20),
    "log.segment.bytes": str(64 << 20),
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


def ensure_jars(cache: Path, progress: Progress) -> Path:
    """The folder with everything a broker needs, made on first use; safe to call from several processes at once.

    Args:
        cache: the machine's cache folder; see ops/local/kafka_jars.py for what lies there.
        progress: is told what takes time.

    Returns:
        The folder to hand to `start`.

    Raises:
        Misconfigured: Java or Maven is missing or too old; the message says what to install.
        Unavailable: the jars could not be fetched.
    """
    version = java_version()
    home = home_of(cache.absolute())
    archive = archive_of(home, version)
    if archive.exists() or archive.with_suffix(".no-archive").exists():
        return home
    with locked(cache):
        fetch_jars(home, progress)
        if not archive.exists() and not archive.with_suffix(".no-archive").exists():
            progress("preparing the Kafka broker for quick starts (once)")
            _write_archive(home, archive)
    return home


def _write_archive(home: Path, archive: Path) -> None:
    """Runs a broker once in a scratch folder; its Java writes the archive of the loaded classes as it stops."""
    with tempfile.TemporaryDirectory(dir=home, prefix="archive-") as scratch:
        made = Path(scratch) / "classes.jsa"
        broker = None
        try:
            broker = _launch(home, Path(scratch) / "broker", {}, free_ports(2), [f"-XX:ArchiveClassesAtExit={made}"])
            broker.wait_ready(120)
            broker.stop(120)
        except DotstreamError:
            if broker is not None:
                broker.kill()
        if made.exists():
            made.rename(archive)
        else:
            archive.with_suffix(".no-archive").touch()


def start(
    jars: Path, folder: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
) -> KafkaProcess:
    """Starts a broker on 127.0.0.1 in its own session and returns at once; `wait_ready` says when it serves.

    Args:
        jars: what `ensure_jars` returned.
        folder: the broker's own; data of an earlier run in it is served again, under the same cluster id.
        port: where clients connect; without it the folder's former port, or a free one.
        settings: broker settings beside or over the local defaults.

    Raises:
        Misconfigured: the port is taken, or a broker runs in this folder already.
        Fatal: the folder could not be formatted.
    """
    folder = folder.absolute()
    running = _running_in(folder)
    if running is not None:
        raise Misconfigured(f"a broker runs in {folder} already (pid {running}); stop it first: kill {running}")
    if port is not None and not is_free(port):
        raise Misconfigured(f"port {port} on {LOOPBACK} is taken; choose another or stop what holds it")
    ports = [port or 0, 0]
    for place, former in enumerate(_former_ports(folder)):
        if not ports[place] and former not in ports and is_free(former):
            ports[place] = former
    fresh = free_ports(2)
    ports = [known or new for known, new in zip(ports, fresh, strict=True)]
    archive = archive_of(jars, java_version())
    flags = [f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"] if archive.exists() else []
    return _launch(jars, folder, settings or {}, ports, flags)


@dataclass
class KafkaProcess:
    """A broker that was started here.

    Attributes:
        folder: its folder.
        bootstrap: "127.0.0.1:port" for clients.
        pid: its process id.
        cluster_id: what the broker behind `bootstrap` must call itself.
    """

    folder: Path
    bootstrap: str
    pid: int
    cluster_id: str
    _process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(self.bootstrap)

    @property
    def log_file(self) -> Path:
        return self.folder / "kafka.log"

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait_ready(self, limit_s: float) -> None:
        """Returns once the broker behind the port answers, is this one by its cluster's id, and takes part in it.

        Raises:
            Fatal: it ended instead; the message quotes its log.
            Misconfigured: another cluster answers on the port.
            Unavailable: the time ran out.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if not self.alive():
                said = self.log_file.read_text(errors="replace")[-100_000:]
                raise Fatal(f"the Kafka broker in {self.folder} ended: {_complaint(said)}")
            if self._answers() and self._serves():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        raise Unavailable(f"the Kafka broker was not ready within {limit_s:g} s; its log is {self.log_file}")

    def _answers(self) -> bool:
        host, port = self.bootstrap.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def _serves(self) -> bool:
        client = AdminClient(self.connection.config(**{"log_level": 0}))
        try:
            seen = client.list_topics(timeout=2)
        except KafkaException:
            return False
        if seen.cluster_id != self.cluster_id:
            raise Misconfigured(f"another Kafka cluster ({seen.cluster_id}) answers on {self.bootstrap}; stop it")
        return bool(seen.brokers)

    def stop(self, limit_s: float = 30) -> None:
        """Asks the broker to stop cleanly; kills it when it has not within the limit."""
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
        (self.folder / "kafka.pid").unlink(missing_ok=True)

    def kill(self) -> None:
        """Ends the broker as a crash would (SIGKILL)."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        (self.folder / "kafka.pid").unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _launch(
    jars: Path, folder: Path, settings: Mapping[str, str], ports: list[int], java_flags: list[str]
) -> KafkaProcess:
    folder.mkdir(parents=True, exist_ok=True)
    properties = _write_properties(folder, ports, settings)
    cluster_id = _cluster_id(folder) or _format(jars, folder, properties, java_flags)
    log = folder / "kafka.log"
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    command: list[str | Path] = [
        java(),
        *_HEAP,
        *java_flags,
        "-Dorg.apache.logging.log4j.level=INFO",
        "-cp",
        _classpath(jars),
    ]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*command, "kafka.Kafka", properties],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    (folder / "kafka.pid").write_text(f"{process.pid}\n")
    return KafkaProcess(folder, f"{LOOPBACK}:{ports[0]}", process.pid, cluster_id, process)


def _classpath(jars: Path) -> str:
    # Named one by one in a fixed order: the class-data archive is valid only for the very class path it was made with.
    return os.pathsep.join(str(jar) for jar in sorted((jars / "libs").glob("*.jar")))


def _write_properties(folder: Path, ports: list[int], settings: Mapping[str, str]) -> Path:
    port, controller = ports
    own = {
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(folder / "data"),
    }
    path = folder / "server.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in {**_SETTINGS, **own, **settings}.items()))
    return path


def _properties(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def _cluster_id(folder: Path) -> str | None:
    return _properties(folder / "data" / "meta.properties").get("cluster.id")


def _former_ports(folder: Path) -> list[int]:
    listeners = _properties(folder / "server.properties").get("listeners", "")
    return [int(listener.rsplit(":", 1)[1]) for listener in listeners.split(",") if listener]


def _format(jars: Path, folder: Path, properties: Path, java_flags: list[str]) -> str:
    """Gives a new data folder its cluster id; what a format that was cut short had left is removed first."""
    data = folder / "data"
    if data.exists():
        if any(entry.is_dir() for entry in data.iterdir()):
            raise Misconfigured(f"{data} holds topics but no meta.properties; restore it, or move the folder away")
        shutil.rmtree(data)
    cluster_id = base64.urlsafe_b64encode(b"\x10" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    flags = [flag for flag in java_flags if not flag.startswith("-XX:ArchiveClassesAtExit")]
    tool: list[str | Path] = [
        java(),
        "-Xmx128m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        *flags,
        "-cp",
        _classpath(jars),
    ]
    run = subprocess.run(
        [*tool, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", properties],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if run.returncode != 0:
        raise Fatal(f"the broker's folder {folder} could not be formatted: {_complaint(run.stdout + run.stderr)}")
    return cluster_id


def _running_in(folder: Path) -> int | None:
    """The process id of a broker that was started in this folder and still runs, as far as /proc can tell."""
    try:
        pid = int((folder / "kafka.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(folder / "server.properties") in command.split(b"\0") else None


def _complaint(said: str) -> str:
    """The line that most likely says why a process ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    causes = [line for line in lines if "Exception" in line or "No space left" in line or "Error:" in line]
    return (causes or lines or ["it said nothing"])[-1][:400]
