"""The local broker's jars: fetched once by Maven into the machine's cache, checked, and made quick to start.

Layout below the cache folder, all of it safe to delete:

    kafka-<pom>/libs/*.jar         what kafka-pom.xml names, each file as kafka-jars.sha256 says
    kafka-<pom>/<java>.jsa         class-data archive of that Java: a broker starts in a third of the time
    kafka-<pom>/<java>.no-archive  that Java could not write one; brokers start without it
    kafka.lock                     held while any of this is being made
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dotstream.errors import Misconfigured, Unavailable

HERE = Path(__file__).resolve().parent
POM = HERE / "kafka-pom.xml"
CHECKSUMS = HERE / "kafka-jars.sha256"
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
OLDEST_JAVA = 17

Progress = Callable[[str], None]
"""Is told, in a few words for a person, what takes time now."""


def java() -> Path:
    """The Java to run: `$JAVA_HOME/bin/java` if there is one, else the one on PATH.

    Raises:
        Misconfigured: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return Path(home) / "bin" / "java"
    found = shutil.which("java")
    if found is None:
        raise Misconfigured(f"Java is missing: the local broker needs {_ADVICE_JAVA}")
    return Path(found)


_ADVICE_JAVA = (
    f"Java {OLDEST_JAVA} or newer (apt-get install default-jre-headless), or use your own broker with --kafka HOST:PORT"
)


def java_version() -> str:
    """The full text of `java -version`, after a check that it is new enough.

    Raises:
        Misconfigured: Java is missing, does not run, or is too old.
    """
    run = subprocess.run([java(), "-version"], capture_output=True, text=True, check=False, timeout=60)
    text = run.stderr + run.stdout
    major = re.search(r'version "(?:1\.)?(\d+)', text)
    if run.returncode != 0 or major is None:
        raise Misconfigured(f"`java -version` failed ({text.strip()[:200]}): the local broker needs {_ADVICE_JAVA}")
    if int(major[1]) < OLDEST_JAVA:
        raise Misconfigured(f"Java {major[1]} is too old: the local broker needs {_ADVICE_JAVA}")
    return text


def home_of(cache: Path) -> Path:
    """The folder below `cache` that belongs to this version of the pom."""
    return cache / f"kafka-{hashlib.sha256(POM.read_bytes() + CHECKSUMS.read_bytes()).hexdigest()[:12]}"


def archive_of(home: Path, version: str) -> Path:
    """Where the class-data archive of the Java of this version text lies, or would lie."""
    return home / f"{hashlib.sha256(version.encode()).hexdigest()[:12]}.jsa"


def fetch_jars(home: Path, progress: Progress) -> Path:
    """Brings the jars to `home/libs` unless they are there, and returns that folder.

    Raises:
        Misconfigured: Maven is missing, or a jar is not the one that was pinned.
        Unavailable: Maven could not fetch them.
    """
    libs = home / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise Misconfigured("Maven is missing: it fetches the local broker (apt-get install maven), or use --kafka")
    progress("fetching the Kafka broker (43 MB)")
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="fetch-") as scratch:
        shutil.copy(POM, Path(scratch) / "pom.xml")
        fetched = Path(scratch) / "libs"
        run = subprocess.run(
            [maven, "-B", "-q", "-C", COPY_GOAL, "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"],
            cwd=scratch, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if run.returncode != 0:
            raise Unavailable(f"Maven could not fetch the local broker: {_first_error(run.stdout + run.stderr)}")
        check_jars(fetched)
        fetched.rename(libs)
    return libs


def check_jars(folder: Path) -> None:
    """Compares every jar with kafka-jars.sha256.

    Raises:
        Misconfigured: a jar is missing, foreign or different.
    """
    expected = {name: digest for digest, name in map(str.split, CHECKSUMS.read_text().splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise Misconfigured(f"jars differ from {CHECKSUMS.name}: {', '.join(wrong)}; check your Maven mirror")


def _first_error(output: str) -> str:
    lines = [line for line in output.splitlines() if "ERROR" in line] or output.splitlines() or ["it said nothing"]
    return lines[0][:300]


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Holds the cache's lock, so that processes that start together fetch once."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
