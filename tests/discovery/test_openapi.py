"""The server against its own OpenAPI document: generated requests, good and bad, are answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch

EXAMPLES = 12
load_all_checks()
CHECKED = [
    CHECKS.get_one(name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
"""Whether an answer is one that the document has. 503 is a good answer to `indexed_up_to` of the future."""
STREAM = "/events"
"""Never ends, so that it has a test of its own."""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("stage")
    stage = Stage(folder)
    record = stage.pin("pin-1", patch("red"), annotations=["art"])
    stage.pin("pin-2", patch("orange"), annotations=["art"], buyable=True)
    stage.dots(record)
    try:
        with serving(stage.services) as (address, _):
            assert stage.services.dots.wait_ready(10)
            yield schemathesis.openapi.from_url(f"{address}/openapi.json", wait_for_schema=5.0)
    finally:
        stage.close()


def test_every_route_answers_as_the_document_says(schema: Any) -> None:
    seen = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == STREAM:
            continue
        seen.append(operation.label)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _try(operation, mode)
    assert {"POST /search/flashlight", "POST /search/objects", "POST /lens", "GET /pins"} <= set(seen)


def _try(operation: Any, mode: GenerationMode) -> None:
    strategy = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case: Any) -> None:
        response = case.call()
        assert response.status_code < 500 or response.status_code == 503, f"{case.as_curl_command()}: {response.text}"
        case.validate_response(response, checks=CHECKED)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "only a request that has no parameters cannot be a bad one"
