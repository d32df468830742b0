"""The HTTP API and the page, put together from the parts that `Services` names.

`create_app` starts nothing; the app's lifespan starts the dot view and the announcer and closes them again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

import dotstream
from discovery import problems
from discovery.middleware import BodyLimit, KnownHost, Measured, Prompt, SecurityHeaders
from discovery.paths import Parts
from discovery.questions import ByPin
from discovery.report_schemas import EngagementsJson, SavesJson
from discovery.routes import events, operations, pins, related, reports, search
from discovery.routes.context import Context
from discovery.schemas import ProblemJson
from discovery.services import Services

PAGE = Path(__file__).parent / "page"
SCHEMAS: dict[str, type[BaseModel]] = {
    "Problem": ProblemJson,
    "SearchByPin": ByPin,
    "Engagements": EngagementsJson,
    "Saves": SavesJson,
}


class Api(FastAPI):
    """FastAPI with the schemas that our routes refer to by name."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problems.instead_of_fastapis(document)
        for name, model in SCHEMAS.items():
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[name] = schema
        return document


def create_app(services: Services) -> FastAPI:
    """The app over these parts, for any ASGI server."""
    context = Context(services)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.start()
        try:
            yield
        finally:
            context.close()

    app = Api(
        title="dotstream",
        version=dotstream.__version__,
        summary="Pins, their dots, and search by what is in a picture",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    problems.install(app)
    # The last one added is the outermost.
    app.add_middleware(Parts)
    app.add_middleware(BodyLimit, limit=services.limits.body_bytes)
    app.add_middleware(Prompt, limits=services.limits, metrics=context.metrics)
    app.add_middleware(KnownHost, hosts=services.allowed_hosts)
    app.add_middleware(Measured, metrics=context.metrics)
    app.add_middleware(SecurityHeaders)
    for router in (operations.router, events.router, search.router, reports.router, related.router, pins.router):
        app.include_router(router)
    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/page", Revalidated(directory=PAGE), name="page")


class Revalidated(StaticFiles):
    """Static files that browsers keep but ask about, so that a new version is seen at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Any:
        """As StaticFiles, with Cache-Control."""
        response = super().file_response(*args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-cache")
        return response
