"""The cropper in a real browser: by mouse, touch and keyboard, with results that follow it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import DESK, PHONE, Open
from tests.browser.filled import LEFT, RIGHT, fill
from tests.discovery.serving import serving
from tests.discovery.stage import Stage

BOX = re.compile(r"#/pin/mixed/([\d.]+),([\d.]+),([\d.]+),([\d.]+)$")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    fill(stage)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def address(stage: Stage) -> Iterator[str]:
    with serving(stage.services) as (address, _):
        yield address


def at(box: tuple[float, float, float, float]) -> str:
    return f"#/pin/mixed/{','.join(map(str, box))}"


def first(page: Page) -> Locator:
    return page.locator("#pin .results-panel .result").first


def point(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where on the screen a point of the picture is, once the dialog has come to rest there."""
    page.locator("#pin").evaluate("dialog => Promise.all(dialog.getAnimations().map((one) => one.finished))")
    frame = page.locator("#pin .stage").bounding_box()
    assert frame is not None
    return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]


def rests(page: Page, near: Sequence[float]) -> list[float]:
    """Waits until the address names a box near to this one; the box."""

    def named(url: str) -> list[float]:
        found = BOX.search(url)
        return [float(value) for value in found.groups()] if found else []

    page.wait_for_url(lambda url: named(url) == pytest.approx(list(near), abs=0.03), timeout=15_000)
    return named(page.url)


def test_without_a_certain_object_there_is_a_default_box(opened: Open, address: str) -> None:
    with opened(address, at="#/pin/mixed") as page:
        cropper = page.get_by_role("application")
        expect(cropper).to_have_accessible_name(re.compile("Crop box, 60 % wide, 60 % high, 20 % from the left"))
        expect(page.get_by_role("heading", name="Like this part")).to_be_visible()
        expect(first(page)).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Title of red-dotted with 1 dot").click()
        expect(page.locator("#pin .dot")).to_have_count(1)
        expect(cropper).to_be_hidden()
        page.get_by_role("button", name="Search a part").click()
        expect(cropper).to_be_focused()
        expect(first(page)).to_be_visible()


def test_results_follow_the_box_that_the_mouse_moves(opened: Open, address: str) -> None:
    with opened(address, at=at(LEFT)) as page:
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of red"))
        with page.expect_request("**/search/flashlight") as asked:
            page.mouse.move(*point(page, 0.2, 0.5))
            page.mouse.down()
            for step in range(1, 30):
                page.mouse.move(*point(page, 0.2 + 0.02 * step, 0.5))
        box = json.loads(asked.value.post_data or "{}")["box"]
        assert box[0] > LEFT[0]
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of blue"))
        assert page.url.endswith(at(LEFT)), "the address changes when the box rests"
        page.mouse.up()
        page.mouse.move(*point(page, *rests(page, RIGHT)[2:]))
        page.mouse.down()
        page.mouse.move(*point(page, 0.8, 0.6), steps=4)
        page.mouse.up()
        expect(page).to_have_url(re.compile(r",0\.[78]\d*,0\.[56]\d*$"))
        page.mouse.move(*point(page, 0.1, 0.1))
        page.mouse.down()
        page.mouse.move(*point(page, 0.4, 0.4), steps=4)
        page.mouse.up()
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of red"))
        rests(page, (0.1, 0.1, 0.4, 0.4))


def test_one_step_back_leaves_the_box(opened: Open, address: str) -> None:
    with opened(address, at="#/pin/red-dotted") as page:
        page.locator("#pin .dot").click()
        expect(page).to_have_url(re.compile("#/pin/red-dotted/0$"))
        expect(page.get_by_role("heading", name="Like this patch")).to_be_visible()
        for key in ("ArrowLeft", "ArrowUp"):
            page.get_by_role("application").press(key)
            expect(page.get_by_role("heading", name="Like this part")).to_be_visible()
        expect(page).to_have_url(re.compile(r"#/pin/red-dotted/0\.24,0\.49,"))
        page.go_back()
        expect(page.get_by_role("heading", name="Like this patch")).to_be_visible()
        expect(page.get_by_role("application")).to_have_accessible_name(re.compile("25 % from the left"))


def test_the_box_moves_and_grows_by_keyboard_and_says_so(opened: Open, address: str) -> None:
    with opened(address, at=at(RIGHT)) as page:
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of blue"))
        cropper = page.get_by_role("application")
        cropper.focus()
        assert cropper.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
        for _ in range(60):
            page.keyboard.press("ArrowLeft")
        expect(cropper).to_have_accessible_name(re.compile("30 % wide, 40 % high, 4 % from the left"))
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of red"))
        for _ in range(5):
            page.keyboard.press("Shift+ArrowLeft")
            page.keyboard.press("Shift+ArrowDown")
        expect(cropper).to_have_accessible_name(re.compile("25 % wide, 45 % high, 4 % from the left"))
        expect(page.locator("#pin .results-panel .results-note")).to_have_text(re.compile(r"^\d results, best first$"))
        assert page.locator("#pin .results-panel .results-note").get_attribute("role") == "status"


def test_the_box_moves_by_touch(opened: Open, address: str) -> None:
    with opened(address, PHONE, at=at(LEFT)) as page:
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of red"))
        touch = page.context.new_cdp_session(page)

        def send(kind: str, *points: tuple[float, float]) -> None:
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

        send("touchStart", point(page, 0.2, 0.5))
        for step in range(1, 30):
            send("touchMove", point(page, 0.2 + 0.02 * step, 0.5))
        send("touchEnd")
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of blue"))
        rests(page, RIGHT)
        assert page.evaluate("document.querySelector('#pin').scrollWidth <= innerWidth")


def test_a_late_answer_never_replaces_a_newer_one(opened: Open, address: str) -> None:
    with opened(address, at=at(LEFT)) as page:
        expect(first(page)).to_be_visible()
        held: list[Route] = []
        page.route("**/search/flashlight", lambda route: held.append(route) if not held else route.continue_())
        with page.expect_request("**/search/flashlight"):
            page.get_by_role("application").press("Shift+ArrowRight")
        with page.expect_event("requestfailed") as aborted:
            page.evaluate(f"location.hash = '{at(RIGHT)}'")
        assert aborted.value == held[0].request
        expect(first(page).get_by_role("link")).to_have_accessible_name(re.compile("Title of blue"))


def test_triton_away_is_said_and_recovered_from(opened: Open, address: str, stage: Stage) -> None:
    stage.models.away = True
    try:
        with opened(address, at=at((0.1, 0.31, 0.42, 0.8)), broken="503") as page:
            status = page.locator("#pin .hint [role=status]")
            expect(status).to_contain_text("A part that this needs is away")
            expect(status).to_contain_text("Triton is away. Trying again by itself.")
            expect(page.get_by_role("button", name="Try now")).to_be_visible()
            stage.models.away = False
            expect(first(page)).to_be_visible()
    finally:
        stage.models.away = False


def test_products_are_marked_curated_or_visual(opened: Open, address: str) -> None:
    with opened(address, at="#/pin/red-dotted/0") as page:
        page.locator("#pin .modes").get_by_text("Shop").click()
        expect(page.get_by_text("4 products, best first")).to_be_visible()
        badges = page.locator("#pin .results-panel .badge")
        expect(badges.first).to_have_text("Curated")
        expect(first(page).get_by_role("link").first).to_have_accessible_name(re.compile("Title of blue-1 .*Curated"))
        assert badges.all_inner_texts()[1:] == ["Visual"] * 3
        shops = page.locator("#pin .results-panel .shop-link")
        assert {link.get_attribute("href") for link in shops.all()} == {"https://shop.example/x"}


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_chips_narrow_the_search_down_and_add_up(opened: Open, address: str, size: tuple[int, int]) -> None:
    with opened(address, size, at="#/pin/red-dotted/0") as page:
        chips = page.get_by_role("group", name="Narrow down by annotation")
        results = page.locator("#pin .results-panel .result")
        chips.get_by_role("button", name="crimson").click()
        expect(results).to_have_count(2)
        expect(page.get_by_text("2 results with “crimson”, best first")).to_be_visible()
        chosen = chips.get_by_role("button", name="crimson")
        expect(chosen).to_have_attribute("aria-pressed", "true")
        expect(chosen).to_be_focused()
        chosen.click()
        expect(results).to_have_count(7)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.querySelector('#pin').scrollWidth <= innerWidth")


def test_a_wrong_address_says_what_is_wrong(opened: Open, address: str) -> None:
    with opened(address, at="#/pin/nowhere", broken="404") as page:
        expect(page.get_by_role("alert")).to_contain_text("No such pin")
        expect(page.locator("#pin")).to_be_hidden()
        page.get_by_role("button", name="Close this message").click()
        expect(page.get_by_role("alert")).to_be_hidden()
