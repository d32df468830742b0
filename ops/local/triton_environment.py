"""The local Triton server's own Python environment: made once per machine, checked, found again.

`tritonserver` and its Python backend come in a wheel, which needs numpy below 2 while dotstream needs numpy 2; so they
live apart, in a folder named by what is in it:

    <cache>/triton/<digest of requirements and Python version>/
        lib/pythonX.Y/site-packages/   the wheel and what the backend imports, by pinned hashes
        backend/                       the Python backend with the stub of this Python version
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from dotstream.errors import Fatal, Misconfigured, Unavailable
from triton_models.files import locked

Progress = Callable[[str], None]

REQUIREMENTS = Path(__file__).with_name("triton-requirements.txt")
PYTHONS = ("3.11", "3.12")
"""Python versions for which both the server has a stub and numpy 1.26 has a wheel."""
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class TritonEnvironment:
    """What is needed to run the server; everything in it is read-only once it is made.

    Attributes:
        folder: the environment.
        server: the `tritonserver` program.
        backend: directory of the Python backend (library, utilities and stub).
        caches: the server's cache implementations.
        variables: environment variables to run the server with, beside none of the caller's but PATH.
    """

    folder: Path
    server: Path
    backend: Path
    caches: Path
    variables: dict[str, str]


def ensure_environment(cache: Path, progress: Progress, *, python: str | None = None) -> TritonEnvironment:
    """The server's environment, made on first use; safe to call from several processes at once.

    Args:
        cache: the machine's cache folder.
        progress: told in a line what is being done.
        python: version of the environment's Python, as "3.11"; by default the running one, else another one of the
            machine that serves.

    Raises:
        Misconfigured: this machine or its Python cannot run the server; the message says what to install.
        Unavailable: the packages could not be fetched.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Misconfigured(
            f"the local Triton server needs Linux on x86_64, this is {sys.platform} on {platform.machine()}; "
            "run the official container and name its address instead (--triton HOST:PORT)"
        )
    uv = _uv()
    interpreter = _interpreter(uv, python)
    version = python or _version_of(interpreter)
    home = cache.absolute() / "triton"
    folder = home / f"{version}-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if not folder.is_dir():
        with locked(home / "lock"):
            if not folder.is_dir():
                progress("installing the Triton server (nvidia-pytriton, 55 MB, and ONNX Runtime; once)")
                _build(uv, interpreter, version, folder)
    environment = _describe(folder, version)
    _check_libraries(environment, version)
    return environment


def _uv() -> str:
    """The uv of this environment's own package, whatever the PATH has."""
    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise Misconfigured(
            f"the package uv has lost its program, which makes the Triton server's environment ({error}); "
            "reinstall it: pip install --force-reinstall uv"
        ) from error


def _interpreter(uv: str, python: str | None) -> str:
    """Path of the Python to build on: the asked or running version, else any on this machine that serves."""
    if python is None and RUNNING in PYTHONS:
        return sys.executable
    if python is not None and python not in PYTHONS:
        raise Misconfigured(f"the local Triton server runs on Python {' or '.join(PYTHONS)}, not on {python}")
    for version in [python] if python else PYTHONS:
        command = [uv, "python", "find", "--no-python-downloads", "--system", version]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if found.returncode == 0:
            return found.stdout.strip()
    wanted = python or " or ".join(PYTHONS)
    raise Misconfigured(
        f"the local Triton server needs Python {wanted} beside the running {RUNNING}, and this machine has none: "
        f"uv python install {python or PYTHONS[-1]}"
    )


def _version_of(interpreter: str) -> str:
    return _asked(interpreter, "import sys; print('%d.%d' % sys.version_info[:2])")


def _asked(interpreter: str | Path, code: str) -> str:
    return subprocess.run(
        [interpreter, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def _build(uv: str, interpreter: str, version: str, folder: Path) -> None:
    """Builds the environment beside its place and renames it; what a killed build left is removed first."""
    beside = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(beside, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--relocatable", "--python", interpreter, str(beside)])
    _run([
        uv, "pip", "install", "--quiet", "--python", str(beside / "bin" / "python"), "--no-deps", "--require-hashes",
        "--only-binary", ":all:", "-r", str(REQUIREMENTS),
    ])  # fmt: skip
    triton = _triton(beside, version)
    shutil.copytree(triton / "backends" / "python", beside / "backend")
    stub = beside / "backend" / "triton_python_backend_stub"
    shutil.copyfile(triton / "python_backend_stubs" / version / stub.name, stub)
    stub.chmod(0o755)
    (triton / "bin" / "tritonserver").chmod(0o755)
    beside.rename(folder)


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    except subprocess.TimeoutExpired as error:
        raise Unavailable("the Triton server's packages did not come within 15 minutes") from error
    if result.returncode != 0:
        said = " ".join(result.stderr.split())[-400:] or "it said nothing"
        kind = Misconfigured if "No space left" in said else Unavailable
        raise kind(f"the Triton server's environment could not be made: {said}")


def _triton(folder: Path, version: str) -> Path:
    return folder / "lib" / f"python{version}" / "site-packages" / "pytriton" / "tritonserver"


def _describe(folder: Path, version: str) -> TritonEnvironment:
    triton = _triton(folder, version)
    python_library = _asked(folder / "bin" / "python", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))")
    libraries = [python_library, str(triton.parent.parent / "nvidia_pytriton.libs")]
    return TritonEnvironment(
        folder=folder,
        server=triton / "bin" / "tritonserver",
        backend=folder / "backend",
        caches=triton / "caches",
        variables={
            # The stub takes its Python from the first one on the path.
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)]),
            "VIRTUAL_ENV": str(folder),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
        },
    )


def _check_libraries(environment: TritonEnvironment, version: str) -> None:
    """Runs server and stub for their usage lines: a missing library would leave the server hanging unready.

    Raises:
        Misconfigured: a shared library is missing; most often Python's own.
    """
    for program in (environment.backend / "triton_python_backend_stub", environment.server):
        result = subprocess.run(
            [program, "--help"], env=environment.variables, capture_output=True, text=True, check=False, timeout=60
        )
        if "error while loading shared libraries" in result.stderr:
            library = result.stderr.split("shared libraries:", 1)[1].split(":", 1)[0].strip()
            what = f"libpython{version}" if "libpython" in library else library
            raise Misconfigured(f"the local Triton server needs {library}: apt-get install {what}")
        if result.returncode < 0:
            raise Fatal(f"{program.name} does not run on this machine (signal {-result.returncode})")
