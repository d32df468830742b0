"""Cut-outs of many 3-D models: each rendered in a child process of its own, a bounded number of them at once.

What is done stays: a model's folder holds its cut-outs and, written last, the job that made them, so that a build that
was interrupted goes on where it was. A model that crashes its child, hangs or shows nothing becomes a `Problem`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from dotstream.errors import Misconfigured
from triton_models.data.library import LIBRARIES, FurnitureModel, held_out, refuse_held_out, unpack
from triton_models.data.problems import Problem
from triton_models.data.render import RenderJob, View
from triton_models.data.seeds import generator
from triton_models.files import write_whole

JOB_FILE = "job.json"
LIMIT_S = 180.0
MIN_SIDE = 6  # pixels; thinner views show nothing

Progress = Callable[[int, int], None]


def _quiet(_done: int, _of: int) -> None:
    """Reports to nobody."""


def views_of(model: FurnitureModel, count: int, seed: int) -> tuple[View, ...]:
    """Where to look from: three in four within 70 degrees of the front, the rest from anywhere; 8 to 50 above."""
    rng = generator(seed, "views", model.key)
    views = []
    for _ in range(count):
        azimuth = rng.uniform(-70, 70) if rng.random() < 0.75 else rng.uniform(-180, 180)
        light = azimuth + rng.uniform(-70, 70)
        angles = (azimuth, rng.uniform(8, 50), light, rng.uniform(20, 70))
        views.append(View(*(round(float(angle), 1) for angle in angles)))
    return tuple(views)


def render_all(
    models: Sequence[FurnitureModel],
    target: Path,
    *,
    count: int,
    size: int,
    seed: int,
    jobs: int,
    progress: Progress = _quiet,
    libraries: Path = LIBRARIES,
) -> tuple[dict[str, list[Path]], list[Problem]]:
    """Renders `count` views of each model into `target`.

    Args:
        models: none of them on the hold-out list.
        target: gets a folder for each model.
        count: views of each model.
        size: side of the frame in pixels.
        seed: what the views are drawn from.
        jobs: child processes at once.
        progress: told after each model how many are done.
        libraries: folder of the `.sh3f` archives.

    Returns:
        key of a model -> its cut-outs, only those with something to see; and what went wrong.

    Raises:
        Misconfigured: a held-out model is among them (before anything is rendered), or VTK or OSMesa is missing.
    """
    listed = held_out()
    for model in models:
        refuse_held_out(model, listed)
    _require_renderer()
    found: dict[str, list[Path]] = {}
    problems: list[Problem] = []

    def one(model: FurnitureModel) -> tuple[FurnitureModel, list[Path] | Problem]:
        return model, _render(model, target, views_of(model, count, seed), size, libraries)

    with ThreadPoolExecutor(jobs) as pool:
        for done, (model, outcome) in enumerate(pool.map(one, models), 1):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                found[model.key] = outcome
            progress(done, len(models))
    return found, problems


def _require_renderer() -> None:
    if find_spec("vtkmodules") is None:
        raise Misconfigured("VTK is not installed: uv sync --group data")
    if not any(Path(folder).glob("libOSMesa.so*") for folder in _library_folders()):
        raise Misconfigured("libOSMesa is not installed: ops/setup.sh --data (Debian package libosmesa6)")


def _library_folders() -> Iterable[str]:
    multiarch = Path("/usr/lib").glob("*-linux-gnu")
    return [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        *map(str, multiarch),
        *os.environ.get("LD_LIBRARY_PATH", "").split(":"),
    ]


def _render(
    model: FurnitureModel, target: Path, views: tuple[View, ...], size: int, libraries: Path
) -> list[Path] | Problem:
    folder = target / model.key.replace("#", "--")
    job = RenderJob(obj=model.member, rotation=model.rotation, size=size, views=views, out="")
    mark = folder / JOB_FILE
    if not (mark.is_file() and mark.read_text() == job.to_json()):
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as unpacked:
            obj = unpack(model, Path(unpacked), libraries)
            failed = _run(replace(job, obj=str(obj), out=str(folder)))
        if failed is not None:
            return Problem(model.key, *failed)
        write_whole(mark, job.to_json().encode())
    pictures = [path for path in sorted(folder.glob("*.png")) if _shows_something(path)]
    return pictures or Problem(model.key, "nothing_to_see", f"all {len(views)} views are empty")


def _run(job: RenderJob) -> tuple[str, str] | None:
    """Runs the child; what went wrong as (reason, detail)."""
    command = [sys.executable, "-m", "triton_models.data.render"]
    environment = {**os.environ, "LP_NUM_THREADS": "1"}  # Mesa's software renderer: one thread in each child
    try:
        result = subprocess.run(
            command, input=job.to_json(), capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return "render_timeout", f"not done after {LIMIT_S:.0f} s"
    if result.returncode < 0:
        return "render_crashed", f"the renderer died by signal {-result.returncode}"
    if result.returncode:
        return "render_failed", (result.stderr.strip().splitlines() or ["no message"])[-1]
    return None


def _shows_something(path: Path) -> bool:
    with Image.open(path) as picture:
        return min(picture.size) >= MIN_SIDE
