"""The one edge to Kafka's client library: how to connect, and what each of its errors means to dotstream.

Everything that talks to a broker (publisher, workers, topic administration) takes a `KafkaConnection` and hands the
client's errors to `translate`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from dotstream.errors import DotstreamError, Fatal, Misconfigured, Poison, Retryable, Unavailable

LOG = logging.getLogger("dotstream.kafka")
"""Where librdkafka's own log lines go. Silent until the application installs a handler."""
LOG.addHandler(logging.NullHandler())

_SECRET_WORDS = ("password", "secret", "token", "key.pem", "jaas", "sasl.oauthbearer.config")


class RebuildClient(Retryable):
    """The client object, or the transaction it has open, is beyond use: close it, build a new one, try again."""


class Fenced(Fatal):
    """Another process has taken this worker's place; going on would write as a zombie."""


@dataclass(frozen=True)
class KafkaConnection:
    """Where the brokers are and how to be let in.

    Args:
        bootstrap: "host:port", several joined by commas.
        security: librdkafka's own settings for TLS and SASL ("security.protocol", "sasl.username", …), passed on as
            they are; values that are secrets never appear in `repr`.
    """

    bootstrap: str
    security: Mapping[str, str] = field(default_factory=dict)

    def config(self, **more: object) -> dict[str, Any]:
        """A configuration for a librdkafka client: this connection and `more`, whose dotted names go in by `**{…}`.

        The client's own log lines go to the Python logger "dotstream.kafka" instead of standard error.
        """
        settings: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "logger": LOG}
        settings.update(self.security)
        settings.update(more)
        return settings

    def __repr__(self) -> str:
        shown = {name: "***" if _is_secret(name) else value for name, value in self.security.items()}
        return f"KafkaConnection(bootstrap={self.bootstrap!r}, security={shown!r})"


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def translate(error: KafkaError | KafkaException | BaseException) -> DotstreamError:
    """What a client's error means: to be tried again, the input's fault, or the end of the worker.

    An error that librdkafka marks as fatal for the client, or that requires the open transaction to be aborted,
    becomes `RebuildClient`, except that a fenced client becomes `Fenced`. Otherwise the code decides.

    Args:
        error: a `KafkaError`, or an exception that carries one as its first argument.
    """
    cause = error.args[0] if isinstance(error, BaseException) and error.args else error
    if not isinstance(cause, KafkaError):
        return Retryable(f"the Kafka client failed: {error}")
    text = f"Kafka says {cause.name()}: {cause.str()}"
    kind = ERRORS.get(_code_of(cause), Retryable)
    if kind is not Fenced and (cause.fatal() or cause.txn_requires_abort()):
        return RebuildClient(text)
    if kind is Poison:
        return Poison("refused_by_kafka", text)
    return kind(text)


def _code_of(error: KafkaError) -> int:
    """The code that decides. A consumer's fatal error hides the code of its cause behind the library's words for it."""
    if error.code() == KafkaError._FATAL:
        for code in _BY_KIND[Fenced]:
            if KafkaError(code).str() in error.str():
                return code
    return int(error.code())


def _codes(*names: str) -> tuple[int, ...]:
    return tuple(getattr(KafkaError, name) for name in names)


# Every code of the client library, by what it means to us; tests/producers/test_kafka.py fails on one that is missing.
_BY_KIND: dict[type[DotstreamError], tuple[int, ...]] = {
    # The broker, its coordinator or the way to it is away for now.
    Unavailable: _codes(
        "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_DESTROY_BROKER", "_NODE_UPDATE", "_WAIT_COORD", "_WAIT_CACHE",
        "_UNKNOWN_BROKER", "_ISR_INSUFF", "BROKER_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION",
        "REPLICA_NOT_AVAILABLE", "NETWORK_EXCEPTION", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE",
        "NOT_COORDINATOR", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "NOT_CONTROLLER",
        "KAFKA_STORAGE_ERROR", "LISTENER_NOT_FOUND", "ELIGIBLE_LEADERS_NOT_AVAILABLE", "PREFERRED_LEADER_NOT_AVAILABLE",
        "STALE_BROKER_EPOCH", "REBOOTSTRAP_REQUIRED", "UNKNOWN_CONTROLLER_ID",
        # A broker that has just started knows no topic yet; a topic that is really missing keeps saying so.
        "UNKNOWN_TOPIC_OR_PART", "UNKNOWN_TOPIC_ID", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION",
    ),
    # Time ran out, something is in progress, or the view of the cluster was stale.
    Retryable: _codes(
        "UNKNOWN", "_FAIL", "_TIMED_OUT", "_MSG_TIMED_OUT", "_TIMED_OUT_QUEUE", "_QUEUE_FULL", "_RETRY", "_INTR",
        "_IN_PROGRESS", "_PREV_IN_PROGRESS", "_PARTIAL", "_UNDERFLOW", "_OUTDATED", "_NOOP", "_PARTITION_EOF",
        "_PURGE_QUEUE", "_PURGE_INFLIGHT", "_NO_OFFSET", "_ASSIGN_PARTITIONS", "_REVOKE_PARTITIONS", "_DESTROY",
        "_BAD_MSG", "_BAD_COMPRESSION", "REQUEST_TIMED_OUT", "STALE_CTRL_EPOCH", "REBALANCE_IN_PROGRESS",
        "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "MEMBER_ID_REQUIRED", "OFFSET_NOT_AVAILABLE", "FENCED_LEADER_EPOCH",
        "UNKNOWN_LEADER_EPOCH", "UNSTABLE_OFFSET_COMMIT", "CONCURRENT_TRANSACTIONS", "TRANSACTION_COORDINATOR_FENCED",
        "OPERATION_NOT_ATTEMPTED", "REASSIGNMENT_IN_PROGRESS", "NO_REASSIGNMENT_IN_PROGRESS", "ELECTION_NOT_NEEDED",
        "THROTTLING_QUOTA_EXCEEDED", "FETCH_SESSION_ID_NOT_FOUND", "INVALID_FETCH_SESSION_EPOCH",
        "SHARE_SESSION_NOT_FOUND", "INVALID_SHARE_SESSION_EPOCH", "SHARE_SESSION_LIMIT_REACHED", "STALE_MEMBER_EPOCH",
        "UNRELEASED_INSTANCE_ID", "INVALID_MSG", "INVALID_MSG_SIZE", "UNKNOWN_SUBSCRIPTION_ID",
        "DUPLICATE_SEQUENCE_NUMBER", "TELEMETRY_TOO_LARGE",
        # Files or descriptors ran out on this machine.
        "_FS", "_CRIT_SYS_RESOURCE",
    ),
    # The client has lost its place or its transaction; a new one starts clean.
    RebuildClient: _codes(
        "_FATAL", "_STATE", "_CONFLICT", "_MAX_POLL_EXCEEDED", "_ASSIGNMENT_LOST", "_INCONSISTENT",
        "_GAPLESS_GUARANTEE", "OUT_OF_ORDER_SEQUENCE_NUMBER", "INVALID_PRODUCER_ID_MAPPING", "UNKNOWN_PRODUCER_ID",
        "INVALID_TXN_STATE", "TRANSACTION_ABORTABLE", "FENCED_MEMBER_EPOCH", "FENCED_STATE_EPOCH",
    ),
    Fenced: _codes("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "FENCED_INSTANCE_ID"),
    # This record will never be taken.
    Poison: _codes(
        "MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_TIMESTAMP",
        "_KEY_SERIALIZATION", "_VALUE_SERIALIZATION", "_KEY_DESERIALIZATION", "_VALUE_DESERIALIZATION", "_INVALID_TYPE",
        "_INVALID_DIFFERENT_RECORD",
    ),
    # A person must change access, names, limits or versions.
    Misconfigured: _codes(
        "_AUTHENTICATION", "_SSL", "_INVALID_ARG", "_NOT_IMPLEMENTED", "_UNSUPPORTED_FEATURE", "_NOT_CONFIGURED",
        "_UNKNOWN_GROUP", "_UNKNOWN_PROTOCOL", "_EXISTING_SUBSCRIPTION",
        "_NOENT", "_READ_ONLY", "_APPLICATION", "INCONSISTENT_TOPIC_ID", "TOPIC_EXCEPTION", "TOPIC_ALREADY_EXISTS",
        "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM",
        "ILLEGAL_SASL_STATE", "SECURITY_DISABLED", "UNACCEPTABLE_CREDENTIAL", "PRINCIPAL_DESERIALIZATION_FAILURE",
        "DELEGATION_TOKEN_AUTH_DISABLED", "DELEGATION_TOKEN_NOT_FOUND", "DELEGATION_TOKEN_OWNER_MISMATCH",
        "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", "DELEGATION_TOKEN_AUTHORIZATION_FAILED", "DELEGATION_TOKEN_EXPIRED",
        "INVALID_PRINCIPAL_TYPE", "UNSUPPORTED_VERSION", "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        "UNSUPPORTED_COMPRESSION_TYPE", "UNSUPPORTED_ASSIGNOR", "UNSUPPORTED_ENDPOINT_TYPE", "MISMATCHED_ENDPOINT_TYPE",
        "INVALID_CONFIG", "INVALID_REQUEST", "POLICY_VIOLATION", "INVALID_PARTITIONS", "INVALID_REPLICATION_FACTOR",
        "INVALID_REPLICA_ASSIGNMENT", "INVALID_REQUIRED_ACKS", "INVALID_SESSION_TIMEOUT", "INVALID_TRANSACTION_TIMEOUT",
        "INVALID_COMMIT_OFFSET_SIZE", "OFFSET_METADATA_TOO_LARGE", "INVALID_GROUP_ID", "INCONSISTENT_GROUP_PROTOCOL",
        "GROUP_MAX_SIZE_REACHED", "GROUP_ID_NOT_FOUND", "NON_EMPTY_GROUP", "GROUP_SUBSCRIBED_TO_TOPIC",
        "INVALID_REGULAR_EXPRESSION", "LOG_DIR_NOT_FOUND", "TOPIC_DELETION_DISABLED", "DUPLICATE_RESOURCE",
        "RESOURCE_NOT_FOUND", "FEATURE_UPDATE_FAILED", "INVALID_UPDATE_VERSION", "INCONSISTENT_VOTER_SET",
        "DUPLICATE_VOTER", "VOTER_NOT_FOUND", "INVALID_VOTER_KEY", "INVALID_REGISTRATION", "INVALID_RECORD_STATE",
        "STREAMS_INVALID_TOPOLOGY", "STREAMS_INVALID_TOPOLOGY_EPOCH", "STREAMS_TOPOLOGY_FENCED",
    ),
    # The log no longer holds what our state says it holds: state must be rebuilt from the log.
    Fatal: _codes("OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET", "_LOG_TRUNCATION"),
}  # fmt: skip

ERRORS: dict[int, type[DotstreamError]] = {code: kind for kind, codes in _BY_KIND.items() for code in codes}
"""Error code of the client library -> what it means. `Poison` stands for `Poison("refused_by_kafka", …)`."""
