"""The page in a real browser: pins and dots arrive live, a dot is clicked, similar objects are seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import APIResponse, Page, Route, expect

from discovery.api import PAGE
from discovery.server import free_port
from indexer.cooccurrence import Together
from indexer.records_pb2 import DetectedObject
from tests.browser.conftest import Open
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch


def fill(stage: Stage) -> None:
    """A few pins that have dots before the page is looked at again."""
    for n, colour in enumerate(("red", "red", "orange", "blue")):
        words = ["art", "crimson"] if colour == "red" else ["art", colour]
        stage.dots(stage.pin(f"{colour}-{n}", patch(colour, size=(400 + 10 * n, 300)), annotations=words))


def test_a_pin_and_its_dots_appear_as_they_arrive(page: Page, stage: Stage) -> None:
    expect(page.get_by_text("No pins yet")).to_be_visible()
    record = stage.pin("first", patch("red"))
    card = page.get_by_role("link", name="Title of first waiting for dots")
    expect(card).to_be_visible()
    expect(page.get_by_text("No pins yet")).to_be_hidden()
    stage.dots(record, after_ms=84)
    expect(page.get_by_role("link", name="Title of first with 1 dot")).to_be_visible()
    dot = page.locator(".card-dot")
    expect(dot).to_have_count(1)
    scene, point = page.locator(".card .scene").bounding_box(), dot.bounding_box()
    assert scene is not None
    assert point is not None
    assert abs(point["x"] + point["width"] / 2 - scene["x"] - scene["width"] / 2) < 5
    assert abs(point["y"] + point["height"] / 2 - scene["y"] - scene["height"] / 2) < 5
    expect(page.locator("#freshness")).to_have_text("84 ms")
    stage.dots(record, decision=2, after_ms=3_600_000)
    expect(page.get_by_role("link", name=re.compile("^Title of first with 1 dot$"))).to_be_visible()
    expect(page.locator("#freshness")).to_have_text("–")
    card_again = page.get_by_role("link", name="Title of first with 1 dot")
    card_again.click()
    expect(page.get_by_text("decided again since")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#count")).to_have_text("1")


def test_what_happens_while_the_newest_pins_are_loaded_is_not_undone_by_them(page: Page, stage: Stage) -> None:
    stage.pin("stays", patch("red"))
    gone = stage.dots(stage.pin("goes", patch("red")))
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/pins?**", lambda route: held.append((route, route.fetch())))
    page.reload()
    expect(page.locator('.live[data-state="live"]')).to_be_visible()
    while len(held) < 2:  # as the page opens, and when it is told that it listens
        page.wait_for_timeout(20)
    stage.delete("goes")
    gone.deleted, gone.version = True, 2
    stage.log.put(gone)
    stage.pin("comes", patch("red"))
    came, stays = (page.get_by_role("link", name=re.compile(f"Title of {name}")) for name in ("comes", "stays"))
    expect(came).to_be_visible()
    for route, answer in held:
        route.fulfill(response=answer)
    expect(stays).to_be_visible()
    expect(came).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("Title of goes"))).to_have_count(0)


def test_a_click_on_a_dot_shows_similar_objects_in_their_scenes(page: Page, stage: Stage) -> None:
    fill(stage)
    page.get_by_role("link", name="Title of red-0 with 1 dot").click()
    dialog = page.get_by_role("dialog", name="Title of red-0")
    dialog.get_by_role("button", name="Patch: show similar objects").click()
    expect(dialog.get_by_role("heading", name="Like this patch")).to_be_visible()
    scenes = dialog.locator(".results-panel .result")
    dialog.get_by_role("radio", name="Scenes").check(force=True)
    expect(dialog.get_by_text("3 scenes, best first")).to_be_visible()
    expect(scenes).to_have_count(3)
    expect(scenes.first.get_by_role("link")).to_have_accessible_name(re.compile(r"Title of red-1 \d+% similar, Patch"))
    scene, box = scenes.first.locator(".scene").bounding_box(), scenes.first.locator(".box").bounding_box()
    assert scene is not None
    assert box is not None
    assert abs(box["width"] / scene["width"] - 0.5) < 0.05
    page.wait_for_function("() => document.querySelector('.results-panel .result img').naturalWidth > 0")
    dialog.get_by_role("button", name="crimson").click()
    expect(scenes).to_have_count(1)
    expect(dialog.get_by_text("1 scene with “crimson”, best first")).to_be_visible()
    scenes.first.get_by_role("link").click()
    expect(page.get_by_role("dialog", name="Title of red-1")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog", name="Title of red-0")).to_be_visible()


def test_looks_are_fashion_only(page: Page, stage: Stage) -> None:
    fill(stage)
    stage.pin("dress", patch("red", (0.1, 0.1, 0.6, 0.9)), categories={"fashion": 1.0})
    page.get_by_role("link", name="Title of red-0 with 1 dot").click()
    page.locator("#pin .dot").click()
    page.locator("#pin .modes").get_by_text("Looks").click()
    expect(page.get_by_text("1 look, best first")).to_be_visible()
    expect(page.locator('#pin .results-panel [data-pin="dress"]')).to_be_visible()


def test_everything_works_by_keyboard(page: Page, stage: Stage) -> None:
    fill(stage)
    page.get_by_role("link", name="Title of orange-2 with 1 dot").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Title of orange-2")
    expect(dialog).to_be_visible()
    page.keyboard.press("Tab")
    expect(dialog.get_by_role("button", name="Patch: show similar objects")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog.locator(".results-panel .result").first).to_be_visible()
    expect(dialog.locator(".dot")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("link", name="Title of orange-2 with 1 dot")).to_be_focused()


def test_suppressed_dots_show_their_reasons(page: Page, stage: Stage) -> None:
    stage.dots(stage.pin("quiet", patch("red")), shown=False)
    page.get_by_role("link", name="Title of quiet with 0 dots").click()
    dialog = page.get_by_role("dialog", name="Title of quiet")
    expect(dialog.locator(".dot")).to_have_count(0)
    dialog.get_by_role("switch", name="Suppressed dots and reasons (1)").check()
    expect(dialog.locator(".dot.suppressed")).to_have_count(1)
    reasons = dialog.get_by_role("list", name="Why each dot is shown or suppressed")
    expect(reasons).to_contain_text("Suppressed: nothing similar enough, results are of mixed categories")
    expect(reasons).to_contain_text("score 0.80")
    expect(reasons).to_contain_text("similarity 0.910")
    expect(reasons).to_contain_text("category conformity 80%")


def test_dots_arrive_in_an_open_pin_and_a_deleted_one_closes(page: Page, stage: Stage) -> None:
    record = stage.pin("open", patch("red"))
    page.get_by_role("link", name="Title of open waiting for dots").click()
    dialog = page.get_by_role("dialog", name="Title of open")
    expect(dialog.get_by_text("They appear here as soon as they are decided.")).to_be_visible()
    stage.dots(record)
    expect(dialog.get_by_role("button", name="Patch: show similar objects")).to_be_visible()
    stage.delete("open")
    gone = stage.dots(record, decision=2)
    gone.deleted, gone.version = True, 2
    stage.log.put(gone)
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("The pin that was open was deleted.")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)


def test_older_pins_come_towards_the_end_and_nothing_overflows(page: Page, stage: Stage) -> None:
    for n in range(65):
        stage.pin(f"many-{n}", patch("red", size=(200 + 8 * (n % 40), 260)))
    page.reload()
    page.locator(".card").nth(59).scroll_into_view_if_needed()
    expect(page.locator(".card")).to_have_count(65)
    expect(page.get_by_role("button", name="Older pins")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_related_pins_stand_below(page: Page, stage: Stage) -> None:
    fill(stage)
    page.get_by_role("link", name="Title of red-0 with 1 dot").click()
    related = page.get_by_role("dialog", name="Title of red-0").get_by_role("region", name="Related pins")
    expect(related).to_contain_text("No pin that is still here was kept together with it; these look alike")
    related.get_by_role("link", name=re.compile("Title of orange-2")).click()
    expect(page.get_by_role("dialog", name="Title of orange-2")).to_be_visible()
    stage.together.of["blue-3"] = [Together("red-1", 2.0, 2)]
    page.evaluate("location.hash = '#/pin/blue-3'")
    related = page.get_by_role("dialog", name="Title of blue-3").get_by_role("region", name="Related pins")
    expect(related).to_contain_text("People keep these on the same boards")
    expect(related.get_by_role("link", name=re.compile("Title of red-1 2 boards shared, "))).to_be_visible()


def test_an_api_that_is_away_is_said_and_recovered_from(opened: Open, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    address = f"http://127.0.0.1:{port}"
    with ExitStack() as window:
        with running(tmp_path, port) as first:
            first.pin("before", patch("red"))
            page = window.enter_context(opened(address, broken="Failed to load resource"))
            expect(page.get_by_role("link", name="Title of before waiting for dots")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("The API cannot be reached. What you see stays")
        expect(page.get_by_text("Reconnecting")).to_be_visible()
        expect(page.get_by_role("link", name="Title of before waiting for dots")).to_be_visible()
        with running(tmp_path, port) as second:
            expect(page.get_by_role("alert")).to_be_hidden()
            second.offsets.update(first.offsets)
            second.pin("after", patch("blue"))
            expect(page.get_by_role("link", name="Title of after waiting for dots")).to_be_visible()


@contextmanager
def running(folder: Path, port: int) -> Iterator[Stage]:
    """An API over what a folder holds, until it is gone."""
    stage = Stage(folder / "stage")
    try:
        with serving(stage.services, port):
            yield stage
    finally:
        stage.close()


def test_a_decision_about_a_pin_that_is_not_loaded_changes_neither_grid_nor_count(page: Page, stage: Stage) -> None:
    old = stage.pin("old", patch("red"))
    stage.pins([f"many-{n}" for n in range(70)], patch("blue"))
    page.reload()
    expect(page.locator("#count")).to_have_text("71")
    expect(page.locator(".card")).to_have_count(60)
    stage.dots(old)
    new = stage.pin("new", patch("red"))
    expect(page.get_by_role("link", name="Title of new")).to_be_visible()
    stage.dots(new)
    expect(page.get_by_role("link", name="Title of new with 1 dot")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("Title of old"))).to_have_count(0)
    expect(page.locator("#count")).to_have_text("72")


def test_a_click_belongs_to_the_nearest_dot(page: Page, stage: Stage) -> None:
    record = stage.pin("close", patch("red"))
    for index, (x0, x1) in enumerate(((0.3, 0.5), (0.32, 0.54)), 1):
        other = DetectedObject()
        other.CopyFrom(record.objects[0])
        other.index, other.box.x0, other.box.x1 = index, x0, x1
        record.objects.append(other)
    record.version = 2
    stage.index([record])
    stage.dots(record)
    page.get_by_role("link", name="Title of close with 3 dots").click()
    dots = page.locator(".stage .dot")
    expect(dots).to_have_count(3)
    page.wait_for_timeout(300)
    for n in range(3):
        place = dots.nth(n).bounding_box()
        assert place is not None
        page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        expect(dots.nth(n)).to_have_attribute("aria-pressed", "true")


def test_what_producers_write_is_never_markup(page: Page, stage: Stage) -> None:
    record = stage.pin("<img src=x onerror=alert(1)>", patch("red"), annotations=["<b>bold</b>"])
    stage.dots(record)
    page.get_by_role("link", name=re.compile("Title of <img")).click()
    dialog = page.get_by_role("dialog", name="Title of <img src=x onerror=alert(1)>")
    expect(dialog).to_contain_text("<b>bold</b>")
    assert page.locator("img[src=x]").count() == 0


def test_a_pin_that_is_opened_as_another_is_left_stays_open(page: Page, stage: Stage) -> None:
    fill(stage)
    page.get_by_role("link", name="Title of red-0 with 1 dot").click()
    expect(page.get_by_role("dialog", name="Title of red-0")).to_be_visible()
    page.evaluate("""() => new Promise((done) => {
        // The page's own listener closed the sheet; the browser tells of that only after this one.
        addEventListener("hashchange", () => { location.hash = "#/pin/blue-3"; }, { once: true });
        document.querySelector("dialog[open]").addEventListener("close", () => setTimeout(done), { once: true });
        location.hash = "#/";
    })""")
    expect(page.get_by_role("dialog", name="Title of blue-3")).to_be_visible()
    assert page.evaluate("location.hash") == "#/pin/blue-3"


def test_colours_of_text_reach_aa_in_both_schemes() -> None:
    sheet = (PAGE / "style.css").read_text()
    schemes = re.findall(r":root \{\s*(--ground:.*?)\s*--shadow", sheet, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", scheme))
        for ground in ("ground", "surface", "sunken"):
            for ink in ("ink", "muted"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for ink in ("accent", "good"):
            assert contrast(colours[ink], colours["surface"]) >= 4.5, ink


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    lights = sorted((luminance(one), luminance(other)), reverse=True)
    return (lights[0] + 0.05) / (lights[1] + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
