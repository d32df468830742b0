"""The stage and a client of the app over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from discovery.api import create_app
from tests.discovery.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture
def api(stage: Stage) -> Iterator[TestClient]:
    with TestClient(create_app(stage.services)) as client:
        assert stage.services.dots.wait_ready(10)
        yield client
