"""A real Triton server on this machine, for the local stack and for tests.

`ensure_environment` brings the software, `start` runs a server on a model repository, in a folder of its own:

    backends/     the Python backend and, at the name `onnxruntime`, triton_models/backend/onnxruntime
    triton.log    what the server and its model instances say
    triton.json   process id, ports and shared-memory prefix of the server that was started last

A server that is started again in its folder takes its former ports if they are free, so that clients find it again,
and first removes what a killed one left behind: model instances and shared-memory regions, both known by the prefix.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import triton_models.backend
from dotstream.errors import Fatal, Misconfigured, Unavailable
from ops.local.ports import LOOPBACK, free_ports, is_free
from ops.local.triton_environment import TritonEnvironment, ensure_environment
from triton_models.files import write_whole

__all__ = ["TritonEnvironment", "TritonProcess", "ensure_environment", "start"]

ControlMode = Literal["none", "explicit", "poll"]

_LOG_LIMIT = 16 << 20
_DEAD_AFTER_S = 3.0  # a child that ended is a model instance only when the server does not ask after it for so long
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend's regions are, by its own name
_BACKENDS = Path(next(iter(triton_models.backend.__path__)))


@dataclass
class TritonProcess:
    """A server that was started here.

    Attributes:
        folder: its folder.
        address: "127.0.0.1:port" for gRPC clients.
        http, metrics: the same for HTTP and for Prometheus (`http://<metrics>/metrics`).
        pid: process id, which is also that of its session.
        prefix: how the names of its shared-memory regions begin.
    """

    folder: Path
    address: str
    http: str
    metrics: str
    pid: int
    prefix: str
    _process: subprocess.Popen[bytes] = field(repr=False)
    _log_start: int = field(repr=False)

    @property
    def log_file(self) -> Path:
        return self.folder / "triton.log"

    def alive(self) -> bool:
        """Whether the server's process still runs."""
        # WNOWAIT leaves the process id taken until `stop` has signalled the whole group.
        gone = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self._process.returncode is None and os.waitid(os.P_PID, self.pid, gone) is None

    def crashed_instances(self) -> int:
        """How many model instances have died since the start.

        The server neither starts them again nor stops calling itself ready: of two instances one dead one fails every
        second request after a second of waiting. Loading the model again does nothing and unloading it waits many
        seconds for the dead one, so the cure is to `stop` and `start` the server.
        """
        return sum(state == "Z" and parent == self.pid for state, parent in _states())

    def wait_ready(self, limit_s: float = 60) -> None:
        """Returns once the server says that it and all its models are ready.

        Raises:
            Fatal: it ended instead, for instance over a model that does not load; the message quotes its log.
            Unavailable: the time ran out, or a model instance died, for which the server would wait without end.
        """
        whole_at = time.monotonic()
        deadline = whole_at + limit_s
        while (now := time.monotonic()) < deadline:
            if not self.alive():
                raise Fatal(f"the Triton server in {self.folder} ended: {self.last_complaint()}")
            if self._says_ready():
                return
            if not self.crashed_instances():
                whole_at = now
            elif now - whole_at > _DEAD_AFTER_S:
                raise Unavailable(f"a model instance died while the server started: {self.last_complaint()}")
            time.sleep(0.05)
        raise Unavailable(f"the Triton server was not ready within {limit_s:g} s: {self.last_complaint()}")

    def last_complaint(self) -> str:
        """The log lines of this run that most likely say what is wrong."""
        with self.log_file.open("rb") as stream:
            stream.seek(self._log_start)
            lines = stream.read().decode(errors="replace").splitlines()
        # Triton's log marks errors by an E before the date: "E1123 19:06:44.123456 ..."
        errors = [line for line in lines if line[:1] == "E" and line[1:5].isdigit() and "Cuda" not in line]
        wanted = errors[:3] or [line for line in lines if line.strip()][-3:]
        return " | ".join(line.strip()[:300] for line in wanted) or f"it said nothing in {self.log_file}"

    def stop(self, limit_s: float = 20) -> None:
        """Lets requests in flight finish (SIGTERM), kills what is still there at the limit, and cleans up."""
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """Ends the server and its model instances as a crash would (SIGKILL), and cleans up."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        _clean_up(self.prefix)

    def _says_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.http, timeout=2)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def start(
    environment: TritonEnvironment,
    repository: Path,
    folder: Path,
    *,
    grpc_port: int | None = None,
    http_port: int | None = None,
    metrics_port: int | None = None,
    control: ControlMode = "none",
    load: Sequence[str] = ("*",),
) -> TritonProcess:
    """Starts a server on 127.0.0.1 in its own session and returns at once; `wait_ready` says when it serves.

    Args:
        environment: what `ensure_environment` returned.
        repository: the model repository; it is only read.
        folder: the server's own, for its log and notes.
        grpc_port: where to listen; by default the folder's former port, or a free one.
        http_port: the same for HTTP.
        metrics_port: the same for Prometheus.
        control: "none" serves what is there at the start; "explicit" lets clients load and unload models.
        load: with "explicit", the models to load at the start, or "*" for all.

    Raises:
        Misconfigured: a port is taken, a server runs in this folder already, or the repository has no exported model.
    """
    folder = folder.absolute()
    if not any(repository.glob("*/config.pbtxt")):
        raise Misconfigured(f"{repository} holds no models; run `dotstream models export`")
    former = _Notes.read(folder)
    if former is not None:
        if former.pid in _processes(former.prefix):
            raise Misconfigured(f"a Triton server runs in {folder} already; stop it first: kill {former.pid}")
        _clean_up(former.prefix)
    ports = _ports([grpc_port, http_port, metrics_port], former.ports if former else [])
    prefix = f"dotstream-{uuid.uuid4().hex[:12]}-"
    command = _command(environment, repository.absolute(), _backends(environment, folder), ports, prefix)
    if control != "none":
        command += [f"--model-control-mode={control}"]
    if control == "explicit":
        command += [f"--load-model={name}" for name in load]
    return _launch(environment, command, folder, ports, prefix)


def _command(
    environment: TritonEnvironment, repository: Path, backends: Path, ports: Sequence[int], prefix: str
) -> list[str]:
    listeners = zip(("grpc", "http", "metrics"), ports, strict=True)
    return [
        str(environment.server),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={environment.caches}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        # Configurations are complete; without this each model's program is started once more to ask.
        "--disable-auto-complete-config",
        "--allow-gpu-metrics=false",
        "--exit-timeout-secs=10",
        *(part for name, port in listeners for part in (f"--{name}-address={LOOPBACK}", f"--{name}-port={port}")),
    ]


def _launch(
    environment: TritonEnvironment, command: list[str], folder: Path, ports: Sequence[int], prefix: str
) -> TritonProcess:
    log = folder / "triton.log"
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as out:
        log_start = out.tell()
        process = subprocess.Popen(
            command,
            cwd=folder, env=environment.variables, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    _Notes(process.pid, list(ports), prefix).write(folder)
    grpc, http, metrics = (f"{LOOPBACK}:{port}" for port in ports)
    return TritonProcess(folder, grpc, http, metrics, process.pid, prefix, process, log_start)


def _backends(environment: TritonEnvironment, folder: Path) -> Path:
    """The server's backend directory: the environment's Python backend and this project's backends beside it."""
    place = folder / "backends"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "python").symlink_to(environment.backend)
    for backend in _BACKENDS.iterdir():
        if (backend / "model.py").is_file():
            (place / backend.name).mkdir()
            shutil.copyfile(backend / "model.py", place / backend.name / "model.py")
    return place


def _ports(asked: Sequence[int | None], former: Sequence[int]) -> list[int]:
    """Asked ports if free, else former ones if free, else fresh ones."""
    taken = [port for port in asked if port is not None and not is_free(port)]
    if taken:
        raise Misconfigured(f"port {taken[0]} on {LOOPBACK} is taken; choose another or stop what holds it")
    kept = [port if port not in asked and is_free(port) else None for port in former] or [None] * len(asked)
    return [one or two or three for one, two, three in zip(asked, kept, free_ports(len(asked)), strict=True)]


@dataclass(frozen=True)
class _Notes:
    """What `triton.json` keeps of the server that was started last in a folder."""

    pid: int
    ports: list[int]
    prefix: str

    @staticmethod
    def read(folder: Path) -> _Notes | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return _Notes(**json.loads((folder / "triton.json").read_text()))
        return None

    def write(self, folder: Path) -> None:
        write_whole(folder / "triton.json", (json.dumps(asdict(self)) + "\n").encode())


def _processes(prefix: str) -> Iterator[int]:
    """Processes of the server with this prefix: it and its model instances carry it among their arguments."""
    mark = prefix.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes():
                    yield int(entry.name)


def _states() -> Iterator[tuple[str, int]]:
    """State letter and parent of every process: "Z" is one that ended and that its parent has not asked after."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                yield state, int(parent)


def _clean_up(prefix: str) -> None:
    """Kills model instances that outlived their server and removes its shared-memory regions."""
    for pid in _processes(prefix):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for region in _SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
