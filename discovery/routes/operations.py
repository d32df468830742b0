"""GET /healthz, /readyz and /metrics: for those who run the API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from discovery.errors import Problem
from discovery.problems import documented
from discovery.routes.context import Here
from discovery.schemas import HealthJson

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> HealthJson:
    """The process answers."""
    return HealthJson(status="ok", checks={})


@router.get("/readyz", responses=documented("unavailable"))
async def readyz(here: Here) -> HealthJson:
    """Index and dots have caught up and can be asked. Triton is left out: look-ups work without it."""
    dots = here.services.dots
    checks = {
        "index": here.announcer.index_ready,
        "dots": dots.ready,
        "dots_behind": dots.behind,
        "generation": here.services.index.generation,
    }
    if not (checks["index"] and checks["dots"]):
        away = " and ".join(name for name in ("index", "dots") if not checks[name])
        raise Problem("unavailable", f"not ready yet: {away}", {"checks": checks}, retry_after_s=1)
    return HealthJson(status="ready", checks=checks)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(here: Here, accept: Annotated[str, Header()] = "") -> Response:
    """Prometheus or OpenMetrics text, as asked for."""
    encoder, content_type = choose_encoder(accept)
    return Response(
        encoder(here.services.registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"}
    )
