"""`dotstream bench models`: pictures per second of detector and embedder together, through a real Triton server.

A server of its own with the exported models, and a closed loop of ready tensors of the demonstration's photographs: one
detector row for each picture, and an embedder row for its whole and for each object in it, at the shape of calls that
does best in a trial. Windows of both models together alternate with windows of each alone, so that a busy machine
shows in all of them; the CPU time of the server beside them says what it hides.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from ops.bench._closed import best_shape, closed_loop
from ops.bench._pictures import Ready, jpegs, ready
from ops.bench._report import Figure, Report, machine
from ops.commands.options import say
from ops.models import triton_client, vision_settings
from ops.private_index import private_settings, private_triton
from triton_models.calls import Unobserved
from triton_models.client import TritonClient

WANTED = 34.0
"""Pictures of about three crops per second on two cores."""
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


def _measured(client: TritonClient, pictures: list[Ready]) -> Report:
    shape = best_shape(client, pictures)
    say(f"{shape} does best")
    rows = statistics.mean(len(one.crops) for one in pictures)
    together, detector, embedder, spent = [], [], [], 0.0
    for number in range(1, WINDOWS + 1):
        before = _server_cpu()
        together.append(closed_loop(client, pictures, shape, WINDOW_S))
        spent += (_server_cpu() - before) / (together[-1] * WINDOW_S)
        detector.append(_alone(lambda turn: client.detect(pictures[turn % len(pictures)].whole[None]), 1.0))
        embedder.append(_alone(lambda turn: client.embed(pictures[turn % len(pictures)].crops), rows))
        say(f"window {number}: {together[-1]:.1f} pictures/s, CPU busy elsewhere: load {psutil.getloadavg()[0]:.1f}")
    return Report(
        "models",
        machine()
        | {
            "server": "the local Triton, two instances of one thread for each model",
            "pictures": f"{len(pictures)} photographs, {rows - 1:.2f} objects each, so {rows:.2f} embedder rows",
            "closed loop": str(shape),
            "windows": f"{WINDOWS} of {WINDOW_S:.0f} s, medians",
            "load": f"{psutil.getloadavg()[1]:.1f} processes over the last five minutes, this benchmark's included",
        },
        {
            "detector and embedder": Figure(statistics.median(together), "pictures/s", limit=WANTED),
            "the best window": Figure(max(together), "pictures/s", limit=WANTED),
            "CPU of Triton": Figure(spent / WINDOWS * 1000, "ms per picture"),
            "detector alone, one thread": Figure(statistics.median(detector), "pictures/s"),
            "embedder alone, one thread": Figure(statistics.median(embedder), "rows/s"),
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
