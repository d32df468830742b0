"""Runs the index or dots worker as `dotstream work` puts it together, on records that a test makes, without models.

python -m tests.consumers.role_process ROLE BOOTSTRAP PREFIX FOLDER FEATURE SETTINGS_AS_JSON
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from consumers.metrics import WorkerMetrics
from dotstream.clock import SystemClock
from ops.generations import Pipeline, read_generations
from ops.settings import load
from ops.topics import TopicNames
from ops.work import GENERATION_BUILDERS, Workplace


def main() -> None:
    role, bootstrap, prefix, folder, feature, settings_json = sys.argv[1:]
    given = {"kafka.bootstrap": bootstrap, "topics.prefix": prefix, "data": Path(folder), **json.loads(settings_json)}
    settings = load(None, given).settings
    names = TopicNames(prefix)
    generation = read_generations(settings.kafka.connection(), names.generations)[settings.generation]
    metrics = WorkerMetrics(role, CollectorRegistry())
    pipeline = Pipeline(generation.fingerprint, "d@1", feature.removesuffix("/codes"), generation.bits)
    place = Workplace(settings, names, metrics, SystemClock(), generation, pipeline)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with contextlib.ExitStack() as owned:
        GENERATION_BUILDERS[role](place, owned).run(stop.is_set)


if __name__ == "__main__":
    main()
