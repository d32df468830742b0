"""Lens in a real browser: a picture by upload, drop and camera, and what was understood of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.browser.conftest import DESK, PHONE, Open
from tests.browser.filled import fill
from tests.discovery.serving import serving
from tests.discovery.stage import Stage, patch


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


def upload(page: Page, data: bytes, name: str = "picture.png") -> None:
    page.locator("#lens-file").set_input_files(FilePayload(name=name, mimeType="image/png", buffer=data))


def test_the_newest_of_two_pictures_stays(opened: Open, address: str) -> None:
    with opened(address) as page:
        page.get_by_role("link", name="Lens").click()
        page.evaluate("""() => {
            const read = window.createImageBitmap;
            const first = new Promise((go) => (window.readTheFirst = go));
            window.createImageBitmap = async (file) => {
                window.createImageBitmap = read;
                await first;
                window.readTheFirst = null;
                return read(file);
            };
        }""")
        upload(page, patch("red", size=(300, 300)))
        upload(page, patch("blue", size=(400, 200)))
        picture = page.get_by_role("dialog", name="Lens").get_by_alt_text("Your picture")
        expect(picture).to_have_js_property("naturalWidth", 400)
        page.evaluate("readTheFirst()")
        page.wait_for_function("readTheFirst === null")
        page.wait_for_timeout(300)
        expect(picture).to_have_js_property("naturalWidth", 400)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_an_uploaded_picture_is_understood_and_explained(opened: Open, address: str, size: tuple[int, int]) -> None:
    with opened(address, size) as page:
        page.get_by_role("link", name="Lens").click()
        lens = page.get_by_role("dialog", name="Lens")
        expect(lens.get_by_text("Show Lens a picture")).to_be_visible()
        upload(page, patch("red"))
        expect(lens.get_by_role("heading", name="Like this picture")).to_be_visible()
        expect(lens.locator(".result").first.get_by_role("link").first).to_have_accessible_name(
            re.compile("Title of red")
        )
        expect(lens.get_by_text(re.compile(r"^\d+ results, blended so that they differ$"))).to_be_visible()
        frame = lens.locator(".stage").bounding_box()
        assert frame is not None
        assert frame["width"] / frame["height"] == pytest.approx(4 / 3, abs=0.02)
        expect(lens.get_by_role("heading", name="Objects")).to_be_visible()
        expect(lens.locator(".meters li").first).to_contain_text(re.compile(r"(art|crimson)\s*\d+%"))
        expect(lens.locator(".swatch").first).to_contain_text(re.compile(r"#[0-9a-f]{6} \d+%"))
        sources = lens.locator(".source")
        expect(sources).to_have_count(3)
        expect(sources.first).to_contain_text(re.compile(r"Looks alike\d+%always"))
        expect(lens.locator(".badge").first).to_be_visible()
        assert page.evaluate("document.querySelector('#lens').scrollWidth <= innerWidth")
        lens.get_by_role("button", name=re.compile("Patch 80% certain")).last.click()
        expect(lens.get_by_role("heading", name="Like this patch")).to_be_visible()
        cropper = lens.get_by_role("application")
        expect(cropper).to_have_accessible_name(re.compile("50 % wide, 5[01] % high"))
        cropper.press("ArrowLeft")
        expect(lens.get_by_role("heading", name="Like this part")).to_be_visible()
        lens.locator(".result a").first.click()
        expect(page.get_by_role("dialog", name=re.compile("Title of red"))).to_be_visible()
        page.go_back()
        expect(lens.get_by_role("heading", name="Like this part")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Lens")).to_be_focused()


def test_a_picture_is_dropped_anywhere(opened: Open, address: str) -> None:
    with opened(address) as page:
        held = page.evaluate_handle(
            """(text) => {
                const held = new DataTransfer();
                const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
                held.items.add(new File([bytes], "picture.png", { type: "image/png" }));
                return held;
            }""",
            base64.b64encode(patch("blue")).decode(),
        )
        page.dispatch_event("#grid", "dragover", {"dataTransfer": held})
        assert page.evaluate("document.body.classList.contains('dropping')")
        page.dispatch_event("#grid", "drop", {"dataTransfer": held})
        lens = page.get_by_role("dialog", name="Lens")
        expect(lens.locator(".result").first.get_by_role("link").first).to_have_accessible_name(
            re.compile("Title of blue")
        )
        assert not page.evaluate("document.body.classList.contains('dropping')")


def test_the_camera_runs_only_while_it_is_asked_for(opened: Open, address: str) -> None:
    with opened(address, PHONE, at="#/lens") as page:
        page.evaluate(
            """() => {
                const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
                window.streams = [];
                navigator.mediaDevices.getUserMedia = async (what) => {
                    const stream = await ask(what);
                    window.streams.push(stream);
                    return stream;
                };
            }"""
        )
        lens = page.get_by_role("dialog", name="Lens")
        lens.get_by_role("button", name="Use the camera").click()
        page.wait_for_function("() => document.querySelector('#lens video')?.videoWidth > 0")
        lens.get_by_role("button", name="Take the picture").click()
        expect(lens.get_by_role("heading", name="Like this picture")).to_be_visible()
        expect(lens.locator(".source")).to_have_count(3)
        states = page.evaluate("window.streams.flatMap((one) => one.getTracks()).map((track) => track.readyState)")
        assert states == ["ended"]


def test_what_is_no_picture_says_what_to_do(opened: Open, address: str) -> None:
    with opened(address, at="#/lens", broken="422") as page:
        upload(page, b"no picture at all", name="notes.png")
        lens = page.get_by_role("dialog", name="Lens")
        expect(lens.get_by_text("The picture cannot be taken")).to_be_visible()
        expect(lens.get_by_text("Choose another picture: JPEG, PNG or WebP")).to_be_visible()
        expect(lens.get_by_text("Choose a picture", exact=True)).to_be_visible()
