"""The page of `tidegate ui` in a real browser: from the overview down to a replica, a log line and a request."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.conftest import cannot_run
from tests.support.browser import Browser, browser_at
from tests.support.dashboard_rows import HOUR_MS, MINUTE_MS, Hour
from tests.support.indexing import fill, of_our_own
from tests.support.lines import cluster, line
from tests.support.ui_rows import fleet, names
from tests.support.ui_server import UiServer, ui_serving
from tests.support.waiting import until
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.schemas.timestamps import from_epoch_ms, to_text
from tidegate.stack import debian_programs
from tidegate.stack.errors import PartMissing

REQUEST, TRACE = "5f2c9a7e-1b3d-4e8f-a6c4-9d0e7b5a3c21", "0af7651916cd43dd8448eb211c80319c"
STACK = 'Traceback (most recent call last):\n  File "/app/model.py", line 12, in infer\nValueError: <b>not</b> aligned'
TASKS = names(20, 50)
CANVAS = """
return [...document.querySelectorAll("section.card canvas")].map((canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colors = new Set();
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3]) colors.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
  }
  return colors.size;
});
"""


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    try:
        debian_programs.browser()
    except PartMissing as error:
        cannot_run(str(error))


@pytest.fixture(scope="module")
def filled(kafka_server: Kafka, elasticsearch_server: Elasticsearch) -> tuple[Kafka, Elasticsearch]:
    """An hour of everything, and one request that failed in its service. Nothing here writes to it."""
    kafka, elasticsearch = of_our_own(kafka_server, elasticsearch_server)
    now_ms = time.time_ns() // 1_000_000
    hour = Hour(now_ms - now_ms % MINUTE_MS - HOUR_MS)
    by_topic = hour.topics()
    at = from_epoch_ms(hour.end_ms - 60_000)
    failed = line(
        start_time=to_text(at),
        request_id=REQUEST,
        response_code=500,
        duration=700,
        upstream_cluster=cluster("chat", "vision"),
        upstream_host="10.0.0.1:8080",
        traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
    )
    by_topic["gateway.access-logs"].append(failed.encode())
    record = by_topic["inference.logs"][0] | {
        "timestamp": to_text(at),
        "department": "vision",
        "task": "chat",
        "message": STACK,
        "severity": "ERROR",
        "request_id": REQUEST,
        "trace_id": TRACE,
    }
    by_topic["inference.logs"].append(record)
    fill(kafka, elasticsearch, by_topic)
    return kafka, elasticsearch


@pytest.fixture
def ui(filled: tuple[Kafka, Elasticsearch]) -> Iterator[UiServer]:
    with ui_serving(*filled, "--source", "elasticsearch") as server:
        yield server


def test_from_the_overview_to_a_replica_and_back_by_links_and_keys(ui: UiServer) -> None:
    with browser_at(ui.url) as browser:
        browser.open("/")
        browser.wait("table[aria-label=departments] tbody tr", "vision")
        assert browser.texts("table[aria-label=tasks] tbody td:first-child") == ["asr-large", "chat", "ocr"]
        browser.wait("#alerts", "errors")
        click(browser, "table[aria-label=tasks] a", "chat")
        browser.wait("h1", "chat")
        browser.wait("table[aria-label=replicas] tbody tr", "10.0.0.1:8080")
        assert browser.path == "/d/vision/t/chat"
        until(lambda: len(drawn(browser)) == 9, "nine charts")
        assert {"First byte", "Tokens", "Requests in flight"} <= set(browser.texts(".card h2"))
        assert {"first byte, p99 ms", "output tokens a second"} <= set(browser.texts(".tile .name"))
        assert min(drawn(browser)) > 3
        click(browser, "table[aria-label=replicas] a", "10.0.0.1:8080")
        browser.wait("h1", "10.0.0.1:8080")
        until(lambda: len(drawn(browser)) >= 2, "its charts")
        for wanted in ("/d/vision/t/chat", "/d/vision", "/"):
            browser.press("u")
            until(lambda wanted=wanted: browser.path == wanted, wanted)
        browser.driver.back()
        browser.wait("h1", "vision")
        assert browser.complaints() == []


def test_what_happened_stands_on_the_charts_and_below_them(ui: UiServer) -> None:
    with browser_at(ui.url) as browser:
        browser.open("/d/vision/t/chat?last=1h")
        browser.wait("table[aria-label='what happened']", "2 → 3 replicas (scale up)")
        reported = browser.texts("table[aria-label='what happened'] .tag")
        assert reported.count("limit applied") == 3
        assert reported.count("replicas") == 3
        events = f"{len(reported)} events."
        until(lambda: count_labels(browser, events) == 9, "each chart has all events")
        # A stretch that is dragged over becomes the time of the whole page.
        plot = browser.all(".u-over")[0]
        middle = plot.size["width"] // 4
        ActionChains(browser.driver).move_to_element(plot).click_and_hold().move_by_offset(
            middle, 0
        ).release().perform()
        until(lambda: "from=" in browser.path, "the time is in the address")
        browser.wait("header", "chosen range")
        assert browser.complaints() == []


def test_a_log_line_leads_to_its_request_and_that_to_the_stack_trace(ui: UiServer) -> None:
    with browser_at(ui.url) as browser:
        browser.open("/logs?status=500")
        browser.wait("table[aria-label=lines] tbody tr", "vision/chat")
        assert browser.texts("table[aria-label=lines] tbody td:nth-child(2)") == ["500"]
        click(browser, "table[aria-label=lines] a", REQUEST[:8])
        browser.wait("pre", "ValueError: <b>not</b> aligned")  # as text, whatever a log says
        assert browser.all("pre b") == []
        browser.wait("dl.facts", "vision/chat")
        assert TRACE in browser.texts("dl.facts")[0]
        assert len(browser.texts("table[aria-label='seconds around'] tr.chosen")) == 2
        browser.open("/trace/unknown-id")
        browser.wait(".state", "unknown-id is not found")
        assert browser.complaints() == []


def test_filters_of_the_logs_are_in_the_address_and_an_empty_answer_is_said(ui: UiServer) -> None:
    with browser_at(ui.url) as browser:
        browser.open("/logs")
        browser.wait("table[aria-label=lines] tbody tr")
        browser.write("input[name=contains]", "no such words")
        browser.press(Keys.ENTER)
        browser.wait(".state", "No line matches")
        assert "contains=no+such+words" in browser.path
        browser.write("input[name=contains]", "model.py")
        browser.press(Keys.ENTER)
        browser.wait("table[aria-label=lines] tbody tr", "Traceback")
        assert len(browser.all("table[aria-label=lines] tbody tr")) == 1


def test_a_server_that_ends_is_reported_and_the_rows_stay(ui: UiServer) -> None:
    with browser_at(ui.url) as browser:
        browser.open("/")
        browser.wait("table[aria-label=tasks] tbody tr", "chat")
        ui.end()
        browser.wait("#banner", "tidegate ui doesn't answer")
        assert "chat" in browser.texts("table[aria-label=tasks] tbody td:first-child")


def test_dark_and_light_are_as_the_system_has_them_until_somebody_chooses(ui: UiServer) -> None:
    with browser_at(ui.url) as browser:
        seen = []
        for scheme in ("light", "dark"):
            browser.driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
            )
            browser.open("/")
            browser.wait("h1", "Overview")
            seen.append(background(browser))
        browser.press("d")
        seen.append(background(browser))
        browser.open("/")
        browser.wait("h1", "Overview")
        seen.append(background(browser))
        light, dark = seen[0], seen[1]
        assert seen == [light, dark, light, light]
        assert light != dark


def test_a_thousand_tasks_are_searched_sorted_and_turned_over_by_keys(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    newest_ms = time.time_ns() // 1_000_000_000 * 1000
    fill(kafka, elasticsearch, fleet(newest_ms, TASKS))
    with (
        ui_serving(kafka, elasticsearch, "--source", "elasticsearch") as ui,
        browser_at(ui.url) as browser,
    ):
        tasks = "table[aria-label=tasks] tbody"
        browser.open("/")
        browser.wait(f"{tasks} tr", TASKS[-1][1])  # the busiest first
        expected = [task for _, task in reversed(TASKS)]
        assert browser.texts(f"{tasks} td:first-child") == expected[:50]
        browser.press("n")
        until(lambda: browser.texts(f"{tasks} td:first-child") == expected[50:100], "the second page")
        browser.press("/")
        browser.press(*"dep-03 07")
        until(lambda: len(browser.texts(f"{tasks} tr")) == 1, "the only one of its words")
        assert browser.texts(f"{tasks} td:first-child") == ["model-03-007"]
        assert "q=dep-03+07" in browser.path
        browser.press(Keys.ESCAPE)
        browser.press("j")
        browser.press(Keys.ENTER)
        browser.wait("h1", "model-03-007")
        assert browser.path.startswith("/d/dep-03/t/model-03-007")
        browser.driver.back()
        browser.wait(f"{tasks} tr", "model-03-007")
        assert len(browser.texts(f"{tasks} tr")) == 1
        browser.write("input[type=search]", "nothing at all")
        browser.wait(f"{tasks}", "Nothing matches")
        assert browser.complaints() == []


def click(browser: Browser, selector: str, text: str) -> None:
    browser.script(
        "[...document.querySelectorAll(arguments[0])].find((one) => one.innerText.includes(arguments[1])).click()",
        selector,
        text,
    )


def drawn(browser: Browser) -> list[int]:
    """Of each chart that is seen: how many colors its pixels have."""
    found = browser.script(CANVAS)
    assert isinstance(found, list)
    return found


def count_labels(browser: Browser, text: str) -> int:
    labels = browser.script(
        "return [...document.querySelectorAll('.plot')].map((one) => one.getAttribute('aria-label') ?? '')"
    )
    assert isinstance(labels, list)
    return sum(text in label for label in labels)


def background(browser: Browser) -> object:
    return browser.script("return getComputedStyle(document.body).backgroundColor")
