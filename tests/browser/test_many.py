"""A thousand pins on the page: it scrolls without long tasks, and arrivals do not move what is being read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import CDPSession, Page, expect

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
    """What the page's main thread does, in seconds of its own time: a busy machine adds nothing."""

    def __init__(self, page: Page) -> None:
        self._session: CDPSession = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def __call__(self) -> dict[str, float]:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in metrics}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_thousand_pins_scroll_without_long_tasks(opened: Open, address: str, size: tuple[int, int]) -> None:
    with opened(address, size) as page:
        work = Work(page)
        cards = page.locator(".card")
        tasks, layouts, counts = [], [], []
        while cards.count() < PINS:
            before = work()
            page.evaluate("scrollBy({ top: 2500, behavior: 'instant' })")
            page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")
            after = work()
            tasks.append(after["TaskDuration"] - before["TaskDuration"])
            layouts.append(after["LayoutDuration"] - before["LayoutDuration"])
            counts.append(after["LayoutCount"] - before["LayoutCount"])
        # A step is several tasks: frames, answers, up to 60 new cards and their pictures. Together they stay short.
        assert sorted(tasks)[int(0.9 * len(tasks))] < LONG_TASK_S, tasks
        assert max(tasks) < 3 * LONG_TASK_S, tasks
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
