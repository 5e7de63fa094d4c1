"""How soon the page of `tidegate ui` shows a fleet, and how soon a search is drawn: `python -m benchmarks.ui`.

A real Chromium loads the overview of 10 and of 1,000 tasks in turns: what the machine does otherwise hits both, and the
small fleet is the floor of the large one. Starts Kafka and Elasticsearch for itself, and removes them afterwards.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.browser import Browser, browser_at
from tests.support.indexing import fill, of_our_own
from tests.support.ui_rows import fleet, names
from tests.support.ui_server import UiServer, ui_serving
from tests.support.waiting import until
from tidegate.schemas.settings import Settings, Stack
from tidegate.stack import local_stack

FLEETS = {"10 tasks": (2, 5), "1,000 tasks": (20, 50)}
# Since the page was asked for, until a table or a chart had its rows for the first time.
DRAWN = (
    "const seen = performance.getEntriesByName(arguments[0]); return seen.length ? seen[0].startTime : null"
)
# Until the rows are there, and until the browser has painted after that.
SEARCHED = """
const done = arguments[arguments.length - 1];
const field = document.querySelector("input[type=search]");
const began = performance.now();
field.value = arguments[0];
field.dispatchEvent(new Event("input"));
const rows = performance.now() - began;
requestAnimationFrame(() => requestAnimationFrame(() => done([rows, performance.now() - began])));
"""


def main() -> None:
    """Print medians over the rounds, each fleet beside the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds: int = parser.parse_args().rounds
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        folder.chmod(0o755)
        stack = local_stack(Settings(stack=Stack(state_dir=folder, start_timeout_seconds=240)))
        cleanup.callback(lambda: stack.down(purge=True))
        stack.up(["kafka", "elasticsearch"])
        fleets: dict[str, tuple[UiServer, Browser]] = {}
        for label, (departments, each) in FLEETS.items():
            kafka, elasticsearch = of_our_own(stack.settings.kafka, stack.settings.elasticsearch)
            newest_ms = time.time_ns() // 1_000_000_000 * 1000
            fill(kafka, elasticsearch, fleet(newest_ms, names(departments, each)))
            server = cleanup.enter_context(ui_serving(kafka, elasticsearch, "--source", "elasticsearch"))
            fleets[label] = server, cleanup.enter_context(browser_at(server.url))
        found: dict[str, dict[str, list[float]]] = {label: {} for label in fleets}
        for number in range(rounds + 1):
            for label, (server, browser) in fleets.items():
                measured = _once(server, browser)
                if number:  # the first round warms both up
                    for what, value in measured.items():
                        found[label].setdefault(what, []).append(value)
    small, large = found.values()
    print(
        f"{'median of ' + str(rounds) + ' rounds, ms':58}"
        + "".join(f"{label:>13}" for label in found)
        + "   ratio"
    )
    for what, values in large.items():
        floor, value = statistics.median(small[what]), statistics.median(values)
        print(f"{what:58}{floor:13,.1f}{value:13,.1f}{value / floor:8.2f}")


def _once(server: UiServer, browser: Browser) -> dict[str, float]:
    began = time.perf_counter()
    server.get("now/task")
    asked = (time.perf_counter() - began) * 1000
    browser.open("/")
    table = _mark(browser, "tidegate-table")
    few, painted = browser.driver.execute_async_script(SEARCHED, "model-01-00")
    all_again, _ = browser.driver.execute_async_script(SEARCHED, "")
    browser.open("/d/dep-01")
    return {
        "the answer with all tasks, without a browser": asked,
        "overview: from the address to the first rows": table,
        "search: from a key to the rows in the document": few,
        "search: from a key to the painted rows": painted,
        "search cleared: to the first page of all rows": all_again,
        "department: from the address to the first chart": _mark(browser, "tidegate-chart"),
    }


def _mark(browser: Browser, name: str) -> float:
    until(lambda: browser.script(DRAWN, name) is not None, f"the page draws its {name}")
    return float(str(browser.script(DRAWN, name)))


if __name__ == "__main__":
    main()
