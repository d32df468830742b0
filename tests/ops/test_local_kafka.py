"""The local broker: started, found again, told apart from others, and clear about what is missing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from dotstream.errors import Fatal, Misconfigured, Unavailable
from ops.local.kafka import KafkaProcess, ensure_jars, start
from ops.local.kafka_jars import archive_of, check_jars, fetch_jars, home_of, java, java_version
from ops.local.ports import free_ports, is_free
from ops.topics import TopicSettings, ensure, event_topics
from tests.support.kafka import cache_folder, read_topic


def silent(_: str) -> None:
    pass


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_data_and_address_survive_a_stop_and_a_kill(own_broker: Callable[[], KafkaProcess]) -> None:
    broker = own_broker()
    ensure(broker.connection, event_topics(TopicSettings()))
    address, cluster = broker.bootstrap, broker.cluster_id
    producer = Producer(broker.connection.config(acks="all"))
    for number, end in enumerate((KafkaProcess.stop, KafkaProcess.kill)):
        producer.produce("pins", f"record {number}".encode())
        assert producer.flush(20) == 0
        end(broker)
        assert not broker.alive()
        assert not psutil.pid_exists(broker.pid)
        broker = own_broker()
        assert (broker.bootstrap, broker.cluster_id) == (address, cluster)
    producer.close()
    values = [record.value() for record in read_topic(broker.connection, "pins", 2)]
    assert sorted(values) == [b"record 0", b"record 1"]  # type: ignore[type-var]


def test_a_transaction_with_offsets_commits_on_one_node(
    broker: KafkaProcess, topics: object, topic_prefix: str
) -> None:
    pins, dead = f"{topic_prefix}pins", f"{topic_prefix}pins.dead"
    consumer = Consumer(broker.connection.config(**{"group.id": topic_prefix, "auto.offset.reset": "earliest"}))
    producer = Producer(broker.connection.config(**{"transactional.id": topic_prefix}))
    try:
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(dead, b"committed")
        producer.flush(10)
        position = [TopicPartition(pins, 0, 5)]
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        assert consumer.committed(position, 10)[0].offset == 5
    finally:
        producer.close()
        consumer.close()
    assert [record.value() for record in read_topic(broker.connection, dead, 1)] == [b"committed"]


def test_a_broker_moves_to_free_ports_when_its_own_are_taken(
    own_broker: Callable[[], KafkaProcess], kafka_jars: Path
) -> None:
    first = own_broker()
    first.stop()
    listeners = (first.folder / "server.properties").read_text()
    with socket.socket() as one, socket.socket() as two:
        ports = [int(part.rsplit(":", 1)[1]) for part in listeners.split("\nlisteners=")[1].split("\n")[0].split(",")]
        for holder, port in zip((one, two), ports, strict=True):
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", port))
            holder.listen()
        second = own_broker()
        assert second.bootstrap != first.bootstrap
        assert second.cluster_id == first.cluster_id
        with pytest.raises(Misconfigured, match=f"port {ports[0]} on 127.0.0.1 is taken"):
            start(kafka_jars, first.folder.parent / "other", port=ports[0])


def test_one_broker_to_a_folder(own_broker: Callable[[], KafkaProcess], kafka_jars: Path) -> None:
    broker = own_broker()
    with pytest.raises(Misconfigured, match=f"kill {broker.pid}"):
        start(kafka_jars, broker.folder)


def test_a_stranger_on_the_port_is_told_apart(broker: KafkaProcess, tmp_path: Path) -> None:
    impostor = KafkaProcess(tmp_path, broker.bootstrap, os.getpid(), "another-cluster", broker._process)
    with pytest.raises(Misconfigured, match="another Kafka cluster"):
        impostor.wait_ready(20)


def test_a_broker_that_cannot_start_says_why(
    own_broker: Callable[[], KafkaProcess], kafka_jars: Path, tmp_path: Path
) -> None:
    settings = {"num.io.threads": "none"}
    with pytest.raises(Fatal, match=r"could not be formatted: .*Invalid value none .*num\.io\.threads"):
        start(kafka_jars, tmp_path / "new", settings=settings)
    broker = own_broker()
    broker.stop()
    broker = start(kafka_jars, broker.folder, settings=settings)
    with pytest.raises(Fatal, match=r"ended: .*Invalid value none .*num\.io\.threads"):
        broker.wait_ready(60)


def test_not_ready_in_time_is_said(kafka_jars: Path, tmp_path: Path) -> None:
    process = start(kafka_jars, tmp_path / "kafka")
    try:
        with pytest.raises(Unavailable, match=r"kafka\.log"):
            process.wait_ready(0.01)
    finally:
        process.kill()
    assert not (tmp_path / "kafka" / "kafka.pid").exists()


def test_a_folder_whose_data_lost_its_identity_is_left_alone(kafka_jars: Path, tmp_path: Path) -> None:
    precious = tmp_path / "kafka" / "data" / "pins-0"
    precious.mkdir(parents=True)
    with pytest.raises(Misconfigured, match=r"no meta\.properties"):
        start(kafka_jars, tmp_path / "kafka")
    assert precious.exists()


def test_missing_java_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(Misconfigured) as caught:
        ensure_jars(tmp_path / "cache", silent)
    assert "apt-get install default-jre-headless" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_java_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "java", "exit 0")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java() == tmp_path / "bin" / "java"


@pytest.mark.parametrize(
    ("says", "message"), [('openjdk version "11.0.2"', "Java 11 is too old"), ('java version "1.8.0_1"', "Java 8 is")]
)
def test_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, message: str) -> None:
    executable(tmp_path / "bin" / "java", f"echo '{says}' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(Misconfigured, match=message):
        ensure_jars(tmp_path / "cache", silent)


def test_missing_maven_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "java", "echo 'openjdk version \"17.0.1\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(Misconfigured, match="apt-get install maven"):
        ensure_jars(tmp_path / "cache", silent)


def test_a_failing_maven_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable(tmp_path / "bin" / "mvn", "echo '[ERROR] could not transfer artifact'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(Unavailable, match="could not transfer artifact"):
        fetch_jars(tmp_path / "home", silent)
    assert not (tmp_path / "home" / "libs").exists()


def test_a_jar_that_is_not_the_pinned_one_is_refused(kafka_jars: Path, tmp_path: Path) -> None:
    for jar in (kafka_jars / "libs").glob("*.jar"):
        (tmp_path / jar.name).symlink_to(jar)
    check_jars(tmp_path)
    swapped = next(tmp_path.glob("zstd-jni-*.jar"))
    swapped.unlink()
    swapped.write_bytes(b"PK another")
    (tmp_path / "extra.jar").touch()
    with pytest.raises(Misconfigured, match=r"extra\.jar, zstd-jni"):
        check_jars(tmp_path)


def test_jars_and_archive_are_made_once(kafka_jars: Path) -> None:
    told: list[str] = []
    assert ensure_jars(cache_folder(), told.append) == kafka_jars == home_of(cache_folder())
    assert told == []
    assert archive_of(kafka_jars, java_version()).stat().st_size > 1 << 20


def test_ports_are_free_different_and_below_the_range_of_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < port < lowest and is_free(port) for port in ports)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", ports[0]))
        holder.listen()
        assert not is_free(ports[0])
