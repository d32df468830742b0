"""Every screen of the page before axe-core, which finds what people with assistive technology would stumble over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESK, PHONE, Open
from tests.browser.filled import fill
from tests.browser.test_lens import upload
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch

OPTIONS = {"rules": {"label-content-name-mismatch": {"enabled": True}, "target-size": {"enabled": True}}}
"""Two rules that axe leaves out unless asked: names that begin with what is seen, and targets that can be hit."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    fill(stage)
    stage.dots(stage.pin("quiet", patch("green")), shown=False)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def address(stage: Stage) -> Iterator[str]:
    with serving(stage.services) as (address, _):
        yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_no_screen_has_a_finding(opened: Open, address: str, size: tuple[int, int], scheme: str) -> None:
    with opened(address, size, broken="404") as page:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        expect(page.locator(".card")).to_have_count(9)
        clean(page, "the grid")
        page.evaluate("location.hash = '#/pin/red-dotted/0'")
        pin = page.get_by_role("dialog", name="Title of red-dotted")
        for mode in ("Similar", "Scenes", "Looks", "Shop"):
            pin.locator(".modes").get_by_text(mode, exact=True).click()
            expect(pin.locator(".results-panel.working")).to_have_count(0)
            clean(page, f"a pin: {mode}")
        page.evaluate("location.hash = '#/pin/quiet'")
        quiet = page.get_by_role("dialog", name="Title of quiet")
        quiet.get_by_role("switch").check()
        expect(quiet.locator(".results-panel .result").first).to_be_visible()
        clean(page, "a box and suppressed dots")
        page.evaluate("location.hash = '#/lens'")
        lens = page.get_by_role("dialog", name="Lens")
        expect(lens.get_by_text("Show Lens a picture")).to_be_visible()
        clean(page, "Lens without a picture")
        upload(page, patch("red"))
        expect(lens.locator(".source")).to_have_count(3)
        clean(page, "Lens with an answer")
        page.evaluate("location.hash = '#/pin/nowhere'")
        expect(page.get_by_role("alert")).to_contain_text("No such pin")
        clean(page, "a notice")


def clean(page: Page, screen: str) -> None:
    found = Axe().run(page, options=OPTIONS).response["violations"]
    told = [f"{one['id']}: {node['html'][:160]}: {node['failureSummary']}" for one in found for node in one["nodes"]]
    assert told == [], f"{screen}: {told}"
