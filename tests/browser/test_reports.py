"""What the page tells the API of what people do: out of which answer, once, and only where that is wanted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from discovery.ports import NoReports
from indexer.cooccurrence import Together
from indexer.records_pb2 import DotRecord
from producers.events_pb2 import EngagementEvent, SaveEvent
from tests.browser.conftest import Open
from tests.browser.filled import fill
from tests.discovery.serving import serving
from tests.discovery.stage import Stage
from tests.discovery.waiting import until


def told(stage: Stage, kind: int, pin_id: str, query: str | None = None) -> EngagementEvent:
    """The one event of this kind about this pin, in answers to this query, once it is there."""

    def found() -> list[EngagementEvent]:
        done = [event for event in stage.reports.events if isinstance(event, EngagementEvent)]
        done = [event for event in done if query in {None, event.query_pin_id}]
        return [event for event in done if event.kind == kind and event.pin_id == pin_id]

    until(found)
    assert len(found()) == 1
    return found()[0]


def saves(stage: Stage) -> list[SaveEvent]:
    return [event for event in stage.reports.events if isinstance(event, SaveEvent)]


def test_what_is_done_with_a_result_counts_for_its_query(opened: Open, stage: Stage) -> None:
    fill(stage)
    with serving(stage.services) as (address, _), opened(address, at="#/pin/red-dotted/0") as page:
        results = page.locator("#pin .results-panel .result")
        page.context.route("https://shop.example/**", lambda route: route.fulfill(body="a shop"))
        with page.context.expect_page() as shop:
            results.filter(has_text="Title of red-1").get_by_role("link", name=re.compile("Shop")).click()
        shop.value.close()
        results.get_by_role("link", name=re.compile("Title of red-0")).click()
        expect(page.get_by_role("dialog", name="Title of red-0")).to_be_visible()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("button", name="Saved")).to_have_attribute("aria-pressed", "true")
        click = told(stage, EngagementEvent.KIND_CLICK, "red-1")
        seen = told(stage, EngagementEvent.KIND_IMPRESSION, "red-1", "red-dotted")
        closeup = told(stage, EngagementEvent.KIND_CLOSEUP, "red-0")
        save = told(stage, EngagementEvent.KIND_SAVE, "red-0")
        for event in (click, seen, closeup, save):
            assert (event.query_pin_id, event.query_object_index) == ("red-dotted", 0)
            assert (event.user_id, event.request_id) == (click.user_id, click.request_id)
        assert click.user_id
        assert click.request_id
        assert (save.position, seen.position) == (closeup.position, click.position)
        board = f"visitor-{save.user_id}"
        assert [(one.pin_id, one.board_id, one.kind) for one in saves(stage)] == [
            ("red-0", board, SaveEvent.KIND_SAVED)
        ]
        page.reload()
        page.get_by_role("button", name="Saved").click()
        expect(page.get_by_role("button", name="Save", exact=True)).to_have_attribute("aria-pressed", "false")
        assert (saves(stage)[-1].board_id, saves(stage)[-1].kind) == (board, SaveEvent.KIND_UNSAVED)


@pytest.mark.parametrize("stays", [True, False], ids=["long click", "click"])
def test_whoever_stays_on_the_other_site_clicked_long(opened: Open, stage: Stage, *, stays: bool) -> None:
    fill(stage)
    with serving(stage.services) as (address, _), opened(address, at="#/pin/red-1") as page:
        page.context.route("https://shop.example/**", lambda route: route.fulfill(body="a shop"))
        page.clock.install()
        with page.context.expect_page() as shop:
            page.get_by_role("link", name=re.compile("Shop at shop.example")).click()
        shop.value.close()
        page.evaluate("(yes) => Object.defineProperty(document, 'hidden', { get: () => yes })", stays)
        page.clock.fast_forward(31_000)
        told(stage, EngagementEvent.KIND_CLICK, "red-1")
        if stays:
            told(stage, EngagementEvent.KIND_LONG_CLICK, "red-1")
        else:
            page.clock.fast_forward(31_000)
            done = [event.kind for event in stage.reports.events if isinstance(event, EngagementEvent)]
            assert EngagementEvent.KIND_LONG_CLICK not in done


def test_boxes_are_crops_and_queries_that_are_no_object(opened: Open, stage: Stage) -> None:
    fill(stage)
    with serving(stage.services) as (address, _), opened(address, at="#/pin/mixed/0.06,0.3,0.36,0.7") as page:
        expect(page.locator("#pin .results-panel .result").first).to_be_visible()
        page.get_by_role("application").press("ArrowRight")
        crop = told(stage, EngagementEvent.KIND_CROP, "mixed")
        assert [crop.box.x0, crop.box.x1] == pytest.approx([0.07, 0.37], abs=1e-3)
        page.locator("#pin .results-panel").get_by_role("link", name=re.compile("Title of red-0")).click()
        closeup = told(stage, EngagementEvent.KIND_CLOSEUP, "red-0")
        assert closeup.query_pin_id == "mixed"
        assert closeup.HasField("box")
        assert not closeup.HasField("query_object_index")


def test_related_pins_are_answers_of_the_whole_pin(opened: Open, stage: Stage) -> None:
    fill(stage)
    stage.together.of["blue-0"] = [Together("red-1", 2.0, 2)]
    with serving(stage.services) as (address, _), opened(address, at="#/pin/blue-0") as page:
        page.get_by_role("region", name="Related pins").get_by_role("link", name=re.compile("^Title of red-1")).click()
        closeup = told(stage, EngagementEvent.KIND_CLOSEUP, "red-1")
        assert closeup.query_pin_id == "blue-0"
        assert not closeup.HasField("box")
        assert not closeup.HasField("query_object_index")
        assert told(stage, EngagementEvent.KIND_CLOSEUP, "blue-0").query_pin_id == ""


def test_an_api_that_only_reads_is_told_nothing(opened: Open, stage: Stage) -> None:
    fill(stage)
    with serving(replace(stage.services, reports=NoReports())) as (address, _), opened(address) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
        page.get_by_role("link", name="Title of red-dotted with 1 dot").click()
        page.locator("#pin .dot").click()
        expect(page.locator("#pin .results-panel .result").first).to_be_visible()
        expect(page.get_by_role("button", name="Save")).to_have_count(0)
        page.evaluate("dispatchEvent(new Event('pagehide'))")
        page.locator("#pin .modes").get_by_text("Scenes").click()
        expect(page.locator("#pin .results-panel .results-note")).to_have_text(re.compile("scene"))
        assert {url.rpartition("/")[2] for url in asked} == {"flashlight", "objects"}


def test_a_pin_that_is_deleted_leaves_every_list_that_is_open(opened: Open, stage: Stage) -> None:
    fill(stage)
    stage.together.of["red-dotted"] = [Together("red-1", 2.0, 2), Together("blue-1", 1.0, 1)]
    with serving(stage.services) as (address, _), opened(address, at="#/pin/red-dotted/0") as page:
        lists = [page.locator(f'{place} [data-pin="red-1"]') for place in ("#grid", ".results-panel", ".related")]
        for one in lists:
            expect(one).to_have_count(1)
        stage.delete("red-1")
        stage.log.put(DotRecord(pin_id="red-1", version=2, deleted=True, generation="g1", epoch=1, decision=1))
        for one in lists:
            expect(one).to_have_count(0)
        expect(page.locator('.related [data-pin="blue-1"]')).to_be_visible()
