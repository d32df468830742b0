"""The edge to the client library: every error code is mapped, and secrets stay secret."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError, KafkaException

from dotstream.errors import DotstreamError, Fatal, Misconfigured, Poison, Retryable, Unavailable
from producers.kafka import ERRORS, Fenced, KafkaConnection, RebuildClient, translate

CODES = {
    name: getattr(KafkaError, name)
    for name in dir(KafkaError)
    if name.lstrip("_").isupper() and isinstance(getattr(KafkaError, name), int) and name != "NO_ERROR"
}


def test_every_code_of_the_client_library_is_mapped() -> None:
    assert len(CODES) > 150
    assert sorted(name for name, code in CODES.items() if code not in ERRORS) == []


def test_no_code_is_mapped_that_the_library_lacks() -> None:
    assert set(ERRORS) == set(CODES.values())


@pytest.mark.parametrize("name", sorted(CODES))
def test_each_code_translates_to_its_kind_and_says_its_name(name: str) -> None:
    error = translate(KafkaError(CODES[name], "what the broker said"))
    assert type(error) is ERRORS[CODES[name]]
    assert name in str(error)
    assert "what the broker said" in str(error)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_TRANSPORT", Unavailable),
        ("_MSG_TIMED_OUT", Retryable),
        ("MSG_SIZE_TOO_LARGE", Poison),
        ("SASL_AUTHENTICATION_FAILED", Misconfigured),
        ("PRODUCER_FENCED", Fenced),
        ("FENCED_INSTANCE_ID", Fenced),
        ("OFFSET_OUT_OF_RANGE", Fatal),
    ],
)
def test_kinds_that_workers_rely_on(name: str, kind: type[DotstreamError]) -> None:
    assert isinstance(translate(KafkaException(KafkaError(CODES[name]))), kind)


def test_a_fatal_or_abortable_error_asks_for_a_new_client_whatever_its_code() -> None:
    code = CODES["REQUEST_TIMED_OUT"]
    assert isinstance(translate(KafkaError(code, fatal=True)), RebuildClient)
    assert isinstance(translate(KafkaError(code, txn_requires_abort=True)), RebuildClient)
    assert isinstance(translate(KafkaError(CODES["_FENCED"], fatal=True)), Fenced)


def test_a_fenced_consumer_is_known_by_the_words_in_its_fatal_error() -> None:
    words = KafkaError(CODES["FENCED_INSTANCE_ID"]).str()
    assert isinstance(translate(KafkaError(CODES["_FATAL"], f"Fatal error: {words}: Fatal consumer error")), Fenced)
    assert isinstance(translate(KafkaError(CODES["_FATAL"], "Fatal error: another")), RebuildClient)


def test_what_carries_no_kafka_error_may_be_tried_again() -> None:
    assert type(translate(KafkaException("no code"))) is Retryable


def test_secrets_are_masked_in_repr_and_kept_in_config() -> None:
    connection = KafkaConnection(
        "b:9092", {"sasl.username": "vision", "sasl.password": "hunter2", "ssl.key.pem": "KEY"}
    )
    assert "hunter2" not in repr(connection)
    assert "KEY" not in repr(connection)
    assert "vision" in repr(connection)
    assert connection.config()["sasl.password"] == "hunter2"


def test_config_takes_more_settings_and_logs_to_python() -> None:
    config = KafkaConnection("b:9092").config(**{"group.id": "g", "enable.auto.commit": False})
    logger = config.pop("logger")
    assert isinstance(logger, logging.Logger)
    assert config == {"bootstrap.servers": "b:9092", "group.id": "g", "enable.auto.commit": False}
