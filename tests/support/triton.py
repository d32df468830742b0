"""A real Triton server with the exported models for tests: one for the session, own ones for tests that kill theirs.

Loaded as a plugin by tests/conftest.py. Weights, exported models and the server's environment stay in the machine's
cache, so that only a machine's first run pays for them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.local.triton import ControlMode, TritonEnvironment, TritonProcess, ensure_environment, start
from tests.support.kafka import cache_folder
from triton_models.export import export
from triton_models.fetch import Weights, fetch

READY_LIMIT_S = 120


@pytest.fixture(scope="session")
def weights() -> Weights:
    """The fetched weights of both models."""
    return fetch(cache_folder())


@pytest.fixture(scope="session")
def exported_repository() -> Path:
    """A model repository that is ready to serve. Tests only read it; `copied_repository` is for changes."""
    repository = cache_folder() / "test-repository"
    export(repository, cache_folder())
    return repository


@pytest.fixture
def copied_repository(exported_repository: Path, tmp_path: Path) -> Path:
    """A copy of the exported repository that the test may change."""
    return Path(shutil.copytree(exported_repository, tmp_path / "repository"))


@pytest.fixture(scope="session")
def triton_environment() -> TritonEnvironment:
    """What `ops.local.triton.start` needs."""
    return ensure_environment(cache_folder(), lambda _: None)


@pytest.fixture(scope="session")
def triton_server(
    triton_environment: TritonEnvironment, exported_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonProcess]:
    """The session's server with both models. Tests do not stop it."""
    process = start(triton_environment, exported_repository, tmp_path_factory.mktemp("triton"))
    try:
        process.wait_ready(READY_LIMIT_S)
        yield process
    finally:
        process.kill()


StartTriton = Callable[..., TritonProcess]


@pytest.fixture
def own_triton(triton_environment: TritonEnvironment, tmp_path: Path) -> Iterator[StartTriton]:
    """Starts a server of the test's own and waits for it; called again, it starts it again in the same folder."""
    started: list[TritonProcess] = []

    def begin(
        repository: Path, *, control: ControlMode = "none", grpc_port: int | None = None, folder: str = "triton"
    ) -> TritonProcess:
        started.append(start(triton_environment, repository, tmp_path / folder, control=control, grpc_port=grpc_port))
        started[-1].wait_ready(READY_LIMIT_S)
        return started[-1]

    yield begin
    for process in started:
        process.kill()
