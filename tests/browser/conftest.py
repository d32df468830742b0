"""A real browser for the page: headless Chromium, and the stage's app under its real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.discovery.serving import serving
from tests.discovery.stage import Stage

ARGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    # A camera that shows a moving test picture.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
MISSING = "no chromium on this machine: install it (Debian: apt-get install -y chromium)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, for a module: while it is open its event loop runs, in which other tests could not run theirs."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture
def address(stage: Stage) -> Iterator[str]:
    """Where the page is."""
    with serving(stage.services) as (address, _):
        yield address


DESK = (1280, 860)
PHONE = (360, 740)
Open = Callable[..., AbstractContextManager[Page]]


class Watched:
    """What a page must not do: fail, complain, or ask another host."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.faults: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith((address, "data:", "blob:")) else self.faults.append(request.url)
            ),
        )


@pytest.fixture
def opened(chromium: Browser) -> Open:
    """Opens the page in a window of its own; on leaving, nothing may have failed but what the test says it broke."""

    @contextmanager
    def opening(
        address: str, size: tuple[int, int] = DESK, *, at: str = "", broken: str | None = None
    ) -> Iterator[Page]:
        touch = size == PHONE
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=touch, permissions=["camera"]
        )
        context.set_default_timeout(15_000)
        watched = Watched(context, address)
        watched.page.goto(f"{address}/{at}")
        watched.page.wait_for_selector('.live[data-state="live"]')
        yield watched.page
        context.close()
        assert [fault for fault in watched.faults if broken is None or broken not in fault] == []

    return opening


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(request: pytest.FixtureRequest, opened: Open, address: str) -> Iterator[Page]:
    """The page, open, on a desk's and on a phone's width."""
    with opened(address, request.param) as page:
        yield page
