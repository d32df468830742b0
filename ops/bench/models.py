"""`dotstream bench models`: pictures per second of detector and embedder together, through a real Triton server.

A server of its own with the exported models, and closed loops of ready tensors of the demonstration's photographs: one
detector row for each picture, and an embedder row for its whole and for each object in it, at the shape of calls that
does best in a trial. Windows over all photographs (fewer than three embedder rows each) alternate with windows over
those that hold an object (more than three), and with windows of each model alone, so that a busy machine shows in all
of them; the CPU time beside them says what it hides.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ops.bench._closed import Shape, best_shape, closed_loop
from ops.bench._pictures import Ready, jpegs, ready
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say
from ops.models import triton_client, vision_settings
from ops.private_index import private_settings, private_triton
from triton_models.calls import Unobserved
from triton_models.client import TritonClient

WANTED = 34.0
"""Pictures of about three crops per second on two cores."""
CORES = 2
WINDOWS = 5
WINDOW_S = 6.0


def main(*, as_json: bool) -> None:
    """Runs the benchmark and prints its report."""
    with tempfile.TemporaryDirectory(prefix="dotstream-bench-") as folder:
        data = Path(folder)
        with private_triton(data) as address:
            settings = private_settings(data, address)
            with triton_client(settings, Unobserved()) as client:
                pictures = ready(client, jpegs(settings.cache_folder, say), vision_settings(settings))
                _measured(client, pictures).show(as_json=as_json)


@dataclass
class Loop:
    """A set of pictures, and what its windows came to: pictures/s, and CPU milliseconds of a picture."""

    pictures: Sequence[Ready]
    rates: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)

    @property
    def title(self) -> str:
        rows = statistics.mean(len(one.crops) for one in self.pictures)
        return f"{rows:.2f} embedder rows a picture"

    def window(self, client: TritonClient, shape: Shape) -> None:
        before = _server_cpu(), time.process_time()
        self.rates.append(closed_loop(client, self.pictures, shape, WINDOW_S))
        done = self.rates[-1] * WINDOW_S / 1000
        self.server.append((_server_cpu() - before[0]) / done)
        self.client.append((time.process_time() - before[1]) / done)

    def figures(self) -> dict[str, Figure]:
        server, client = statistics.median(self.server), statistics.median(self.client)
        return {
            f"{self.title}": Figure(statistics.median(self.rates), "pictures/s", limit=WANTED),
            f"{self.title}, best window": Figure(max(self.rates), "pictures/s", limit=WANTED),
            f"{self.title}, CPU of Triton": Figure(server, "ms per picture"),
            f"{self.title}, CPU of the client": Figure(client, "ms per picture"),
            f"{self.title}, by CPU time on {CORES} free cores": Figure(
                CORES * 1000 / (server + client), "pictures/s", limit=WANTED
            ),
        }


def _measured(client: TritonClient, pictures: Sequence[Ready]) -> Report:
    shape = best_shape(client, pictures)
    say(f"{shape} does best")
    loops = [Loop(pictures), Loop([one for one in pictures if len(one.crops) > 1])]
    rows = statistics.mean(len(one.crops) for one in pictures)
    detector, embedder = [], []
    for number in range(1, WINDOWS + 1):
        for loop in loops:
            loop.window(client, shape)
        detector.append(_alone(lambda turn: client.detect(pictures[turn % len(pictures)].whole[None]), 1.0))
        embedder.append(_alone(lambda turn: client.embed(pictures[turn % len(pictures)].crops), rows))
        rates = ", ".join(f"{loop.rates[-1]:.1f}" for loop in loops)
        say(f"window {number}: {rates} pictures/s, load of the machine {psutil.getloadavg()[0]:.1f}")
    return Report(
        "models",
        machine()
        | {
            "server": "the local Triton, two instances of one thread for each model",
            "pictures": f"{len(pictures)} photographs, and the {len(loops[1].pictures)} of them that hold an object",
            "closed loop": str(shape),
            "windows": f"{WINDOWS} of {WINDOW_S:.0f} s for each set, interleaved, medians",
            "load": f"{psutil.getloadavg()[1]:.1f} processes over the last five minutes, this benchmark's included",
        },
        loops[0].figures()
        | loops[1].figures()
        | {
            "detector alone, one thread asks": Figure(statistics.median(detector), "pictures/s"),
            "embedder alone, one thread asks": Figure(statistics.median(embedder), "rows/s"),
        },
    )


def _alone(call: Callable[[int], object], each: float) -> float:
    """Rows per second of one model, asked by one thread for a third of a window."""
    began, turn = time.monotonic(), 0
    while time.monotonic() - began < WINDOW_S / 3:
        call(turn)
        turn += 1
    return turn * each / (time.monotonic() - began)


def _server_cpu() -> float:
    """CPU seconds of the server and its model processes so far."""
    servers = [one for one in psutil.Process().children(recursive=True) if "triton" in one.name()]
    return sum(sum(one.cpu_times()[:2]) for one in servers)
