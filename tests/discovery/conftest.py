"""The stage, and an HTTP client of the real server over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.discovery.serving import serving
from tests.discovery.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture
def api(stage: Stage) -> Iterator[httpx.Client]:
    with serving(stage.services) as (address, _), httpx.Client(base_url=address, timeout=20, trust_env=False) as client:
        assert stage.services.dots.wait_ready(10)
        yield client
