"""A thousand pins on the page: it scrolls without long tasks, and arrivals do not move what is being read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.browser.conftest import DESK, PHONE, Open
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch

PINS = 1000
LONG_TASK_S = 0.05
"""From here on a task is long (W3C Long Tasks)."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    for n, size in enumerate(((300, 400), (400, 300), (500, 300), (300, 300), (640, 360))):
        stage.pins([f"many-{n}-{i}" for i in range(PINS // 5)], patch("red", size=size))
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def address(stage: Stage) -> Iterator[str]:
    with serving(stage.services) as (address, _):
        yield address


class Work:
    """How much the page's main thread has laid out, in seconds of its own time: a busy machine adds nothing."""

    def __init__(self, page: Page) -> None:
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def __call__(self) -> dict[str, float]:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in metrics}


@contextmanager
def tasks_of(browser: Browser, page: Page) -> Iterator[Callable[[], list[float]]]:
    """Traces a page; afterwards the seconds of its own time that each task of its main thread took: a busy machine adds
    nothing to them either.
    """
    traced: list[dict[str, object]] = []

    def tasks() -> list[float]:
        mains = {place(event) for event in traced if event.get("args") == {"name": "CrRendererMain"}}
        runs = (event for event in traced if event.get("name") == "RunTask" and place(event) in mains)
        return [float(str(event["tdur"])) / 1e6 for event in runs if "tdur" in event]

    def place(event: dict[str, object]) -> tuple[object, object]:
        return event["pid"], event["tid"]

    browser.start_tracing(page=page, categories=["__metadata", "disabled-by-default-devtools.timeline"])
    try:
        yield tasks
    finally:
        traced += json.loads(browser.stop_tracing())["traceEvents"]


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_thousand_pins_scroll_without_long_tasks(
    chromium: Browser, opened: Open, address: str, size: tuple[int, int]
) -> None:
    with opened(address, size) as page:
        work = Work(page)
        cards = page.locator(".card")
        layouts, counts = [], []
        with tasks_of(chromium, page) as tasks:
            while cards.count() < PINS:
                before = work()
                page.evaluate("scrollBy({ top: 2500, behavior: 'instant' })")
                page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")
                after = work()
                layouts.append(after["LayoutDuration"] - before["LayoutDuration"])
                counts.append(after["LayoutCount"] - before["LayoutCount"])
        taken = tasks()
        assert len(taken) > PINS
        assert max(taken) < LONG_TASK_S, sorted(taken)[-10:]
        assert max(layouts) < LONG_TASK_S, layouts
        assert max(counts) <= 30, counts
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_new_pins_wait_while_a_person_reads_further_down(opened: Open, address: str, stage: Stage) -> None:
    with opened(address) as page:
        expect(page.locator(".card")).to_have_count(60)
        page.evaluate("scrollTo({ top: 1500, behavior: 'instant' })")
        page.wait_for_function("() => scrollY > 1000")
        seen = page.evaluate("document.elementFromPoint(300, 500).closest('.card')?.dataset.pin")
        stage.dots(stage.pin("late", patch("blue")))
        held = page.get_by_role("button", name="1 new pin")
        expect(held).to_be_visible()
        assert page.evaluate("document.elementFromPoint(300, 500).closest('.card')?.dataset.pin") == seen
        held.click()
        expect(page.get_by_role("link", name="Title of late with 1 dot")).to_be_in_viewport()
        expect(held).to_be_hidden()
