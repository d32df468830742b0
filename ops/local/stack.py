"""The local stack: which parts it has, how each starts, and how one knows that it works.

    models ──> triton ──────────┐
       └──────────────┐         v
    kafka (+ topics) ─┴─> takedowns, index, dots, crops, saves, tags, engagements, api, and vision

Everything listens on 127.0.0.1. Brokers and Triton may be the user's own; then they are only waited for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dotstream.clock import SystemClock
from dotstream.errors import Fatal, Misconfigured, Unavailable
from ops.local import guard, kafka, triton
from ops.local.claim import claimed, stack_file, write_stack
from ops.local.ports import LOOPBACK, free_ports, is_free
from ops.local.process import Process, Running, last_line, spawn
from ops.local.supervisor import Part, State, Supervisor, guarded, within
from ops.settings import Loaded, Settings, child_environment
from producers.kafka import KafkaConnection

ROLES = ("takedowns", "index", "dots", "crops", "saves", "tags", "engagements", "vision")
FREE_BYTES = 512 << 20
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""glibc otherwise keeps an arena for each thread, and in each what the largest picture had taken. Up to 8 MB comes from
the heap, as mapping each picture's pixels anew costs more than decoding them."""
TRITON_READY_LIMIT_S = 60.0  # seconds are usual; a server that hangs as it starts is started again
LOOK_EVERY_S = 2.0  # at Triton's processes
CANARY_EVERY = 8  # looks: an inference of each model
CHILD_LOOK_EVERY_S = 5.0  # at /healthz of workers and API
CHILD_DOUBT_S = 60.0  # a process that was merely stopped for a while, or waits for a slow disk, comes back by itself
Progress = Callable[[str], None]


class External:
    """Stands for a part that this stack does not run: the user's own server, or work that is done once."""

    pid = 0

    def alive(self) -> bool:
        return True

    def stop(self, limit_s: float) -> None:
        """Nothing to end; `limit_s` is not needed."""

    def kill(self) -> None:
        """Nothing to end."""


class LocalStack:
    """The parts of one data folder under one supervisor. Made by `local_stack`."""

    def __init__(self, loaded: Loaded, own_kafka: str | None, own_triton: str | None, progress: Progress) -> None:
        self.settings = loaded.settings
        self.data = loaded.settings.data.absolute()
        self._loaded = loaded
        self._progress = progress
        self._ports = _kept_ports(self.data, (*ROLES, "kafka", "triton"))
        self.kafka = own_kafka or f"{LOOPBACK}:{self._ports['kafka']}"
        self.triton = own_triton or f"{LOOPBACK}:{self._ports['triton']}"
        self.api = f"http://{LOOPBACK}:{_api_port(loaded)}"
        self._own = {"kafka": own_kafka is not None, "triton": own_triton is not None}
        self._own_roots = tuple(dict.fromkeys((str(Path.home()), str(Path.cwd()))))
        self._lock = threading.Lock()
        self._supervisor = Supervisor(self._parts(), clock=SystemClock(), changed=self._write)

    @property
    def ready(self) -> bool:
        return self._supervisor.ready

    @property
    def connection(self) -> KafkaConnection:
        return self.settings.kafka.model_copy(update={"bootstrap": self.kafka}).connection()

    def start(self, stop: threading.Event) -> None:
        """Returns when every part works, or when `stop` is set.

        Raises:
            DotstreamError: a part did not come up; the message says which and what to do.
        """
        self._write(self._supervisor.states)
        self._supervisor.start(stop)
        self._write(self._supervisor.states)

    def watch(self, stop: threading.Event) -> None:
        """Keeps the parts alive until `stop` is set."""
        self._supervisor.watch(stop)

    def stop(self) -> None:
        """Ends every part in order."""
        self._supervisor.stop()
        stack_file(self.data).unlink(missing_ok=True)

    def kill(self) -> None:
        """Kills every part at once."""
        self._supervisor.kill()

    def _parts(self) -> list[Part]:
        base = frozenset({"kafka", "models"})
        parts = [self._kafka_part(), self._models_part(), self._triton_part()]
        parts += [self._worker_part(role, base | {"triton"} if role == "vision" else base) for role in ROLES]
        port = self.api.rsplit(":", 1)[1]
        command = ["serve", "--host", LOOPBACK, "--port", port]
        return [*parts, self._child_part("api", command, f"{LOOPBACK}:{port}", base)]

    def _kafka_part(self) -> Part:
        def start() -> Running:
            if self._own["kafka"]:
                return External()
            jars = kafka.ensure_jars(self.settings.cache_folder, self._progress)
            return kafka.start(jars, self.data / "kafka", port=self._ports["kafka"])

        def wait_ready(running: Running, limit_s: float) -> None:
            if isinstance(running, kafka.KafkaProcess):
                running.wait_ready(limit_s)
            self._ensure_topics()

        return Part("kafka", start, wait_ready, stop_limit_s=20)

    def _ensure_topics(self) -> None:
        from ops import topics

        plan = self.settings.topics.plan()
        topics.ensure(self.connection, topics.all_topics(plan, [self.settings.generation]), settings=plan)

    def _models_part(self) -> Part:
        def start() -> Running:
            if not self._own["triton"] and not _exported(self.settings.repository_folder):
                self._progress("exporting the models (once)")
                log = self.data / "logs" / "models.log"
                environment = child_environment(self._loaded, {})
                export = spawn([sys.executable, "-m", "ops.cli", "models", "export"], log, environment)
                while export.alive():
                    if self._supervisor.stopping:
                        export.kill()
                    time.sleep(0.1)
                if export.status != 0:
                    raise Fatal(f"the models could not be exported: {last_line(log).removeprefix('dotstream: ')}")
            return External()

        return Part("models", start, lambda _, __: None)

    def _triton_part(self) -> Part:
        def start() -> Running:
            if self._own["triton"]:
                return External()
            environment = triton.ensure_environment(self.settings.cache_folder, self._progress)
            marked = {**environment.variables, guard.VARIABLE: os.environ.get(guard.VARIABLE, "")}
            environment = dataclasses.replace(environment, variables=marked)
            repository, folder = self.settings.repository_folder, self.data / "triton"
            return triton.start(environment, repository, folder, grpc_port=self._ports["triton"], control="explicit")

        def wait_ready(running: Running, limit_s: float) -> None:
            if isinstance(running, triton.TritonProcess):
                running.wait_ready(limit_s)
            within(limit_s, self._canary, running, "Triton", lambda: "see triton/triton.log")

        looks = itertools.count(1)

        def check(running: Running) -> None:
            if isinstance(running, triton.TritonProcess) and running.crashed_instances():
                raise Unavailable("a model instance has died; only a restart of the server brings it back")
            if next(looks) % CANARY_EVERY == 0:
                self._canary()

        needs = frozenset({"models"})
        return Part(
            "triton",
            start,
            wait_ready,
            needs,
            check=check,
            check_every_s=LOOK_EVERY_S,
            stop_limit_s=12,
            ready_limit_s=TRITON_READY_LIMIT_S,
        )

    def _canary(self) -> None:
        """One inference of each model: a server whose Python stub has died goes on saying that it is ready."""
        from ops.models import triton_client
        from triton_models.calls import Unobserved

        chosen = self.settings.triton.model_copy(update={"address": self.triton, "shared_memory": False})
        client = triton_client(self.settings.model_copy(update={"triton": chosen}), Unobserved())
        try:
            client.canary()
        finally:
            client.close()

    def _worker_part(self, role: str, needs: frozenset[str]) -> Part:
        port = self._ports[role]
        return self._child_part(role, ["work", role, "--metrics-port", str(port)], f"{LOOPBACK}:{port}", needs)

    def _child_part(self, name: str, arguments: list[str], address: str, needs: frozenset[str]) -> Part:
        log = self.data / "logs" / f"{name}.log"

        def start() -> Running:
            environment = {**MALLOC, **child_environment(self._loaded, self._for_children())}
            return spawn([sys.executable, "-m", "ops.cli", *arguments], log, environment)

        def wait_ready(running: Running, limit_s: float) -> None:
            within(limit_s, lambda: _probe(address), running, name, lambda: f"{last_line(log)} ({log})")

        def check(_: Running) -> None:
            _get(address, "/healthz")  # any answer will do: a process that is merely overloaded does not hang

        return Part(
            name, start, wait_ready, needs, check=check, check_every_s=CHILD_LOOK_EVERY_S, doubt_s=CHILD_DOUBT_S
        )

    def _for_children(self) -> dict[str, Any]:
        """Settings that follow from running here, beside those that were given.

        The broker and the API listen on loopback only, so file URLs may name what this user keeps; a `publish` of a
        local folder sends large pictures that way.
        """
        chosen: dict[str, Any] = {"kafka.bootstrap": self.kafka, "triton.address": self.triton, "data": self.data}
        if not {"fetch.schemes", "fetch.file_roots"} & set(self._loaded.sources):
            chosen["fetch.schemes"] = ("https", "file")
            chosen["fetch.file_roots"] = self._own_roots
        return chosen

    def _file_roots(self) -> list[str]:
        """Folders below which the workers read file URLs."""
        fetch = self.settings.fetch
        set_roots = fetch.file_roots if "file" in fetch.schemes else ()
        return list(self._for_children().get("fetch.file_roots", set_roots))

    def _write(self, states: Mapping[str, State]) -> None:
        with self._lock:
            write_stack(self.data, self._facts(states))

    def facts(self) -> dict[str, Any]:
        """What stack.json says: addresses, and readiness and process id of every part."""
        return self._facts(self._supervisor.states)

    def _facts(self, states: Mapping[str, State]) -> dict[str, Any]:
        parts = {
            name: {
                "ready": state.ready,
                "pid": state.running.pid if state.running else None,
                "restarts": state.restarts,
                **({"metrics": f"http://{LOOPBACK}:{self._ports[name]}/metrics"} if name in ROLES else {}),
                **({"log": str(state.running.log)} if isinstance(state.running, Process) else {}),
            }
            for name, state in states.items()
        }
        return {
            "ready": all(state.ready for state in states.values()),
            "kafka": self.kafka,
            "triton": self.triton,
            "api": self.api,
            "generation": self.settings.generation,
            "prefix": self.settings.topics.prefix,
            "file_roots": self._file_roots(),
            "pid": os.getpid(),
            "parts": parts,
        }


@contextlib.contextmanager
def local_stack(
    loaded: Loaded, *, own_kafka: str | None = None, own_triton: str | None = None, progress: Progress
) -> Iterator[LocalStack]:
    """A stack that is not started yet; at the end of the block nothing of it runs any more, whatever happened.

    Args:
        loaded: settings; every one that is not a default is handed on to the workers.
        own_kafka: "host:port" of brokers to use instead of a local one.
        own_triton: "host:port" of a Triton to use instead of a local one.
        progress: told in a line what takes time.

    Raises:
        Misconfigured: a stack runs in the data folder already, a port is taken, or there is no space.
    """
    data = loaded.settings.data.absolute()
    with claimed(data):
        _refuse_full_disk(data, loaded.settings)
        with guarded() as stopped:
            stack = LocalStack(loaded, own_kafka, own_triton, progress)
            try:
                yield stack
            finally:
                stack.stop()
                stopped()


def _exported(repository: Path) -> bool:
    from triton_models.export import SERVED

    return all(model.is_exported(repository) for model in SERVED)


def _refuse_full_disk(data: Path, settings: Settings) -> None:
    for folder in (data, settings.cache_folder):
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        if free < FREE_BYTES:
            raise Misconfigured(
                f"no disk space: {place} has {free >> 20} MB left, {FREE_BYTES >> 20} MB are needed; "
                "free some, or choose another folder with --data"
            )


def _api_port(loaded: Loaded) -> int:
    """The port that was asked for, else 8080 when it is free, else a free one."""
    port = loaded.settings.api.port
    if port and is_free(port):
        return port
    if port and "api.port" in loaded.sources:
        raise Misconfigured(f"port {port} on {LOOPBACK} is taken; choose another with --port or stop what holds it")
    return free_ports(1)[0]


def _kept_ports(data: Path, names: Sequence[str]) -> dict[str, int]:
    """The ports that the parts had last time, as far as they are free, so that the user's clients find them again."""
    file = data / "ports.json"
    former: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        former = {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
    fresh = dict(zip(names, free_ports(len(names)), strict=True))
    ports = {name: former[name] if name in former and is_free(former[name]) else fresh[name] for name in names}
    file.write_text(json.dumps(ports) + "\n")
    return ports


def _probe(address: str) -> None:
    """Raises: Unavailable unless /readyz at "host:port" answers 200."""
    status, said = _get(address, "/readyz")
    if status != http.client.OK:
        raise Unavailable(f"{address} is not ready: {said}")


def _get(address: str, path: str) -> tuple[int, str]:
    """Status and beginning of the answer. Raises: Unavailable when there is none."""
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(300).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{address} does not answer: {error}") from error
    finally:
        connection.close()
