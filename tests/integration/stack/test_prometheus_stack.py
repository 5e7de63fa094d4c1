"""Prometheus and Alertmanager as servers of the local stack."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import up
from tests.support.waiting import until
from tidegate.schemas.settings import Settings, Stack
from tidegate.stack import debian_programs
from tidegate.stack.errors import PartMissing
from tidegate.stack.local import LocalStack
from tidegate.stack.prometheus import (
    ALERTMANAGER,
    PROMETHEUS,
    AlertmanagerServer,
    PrometheusServer,
    Scraping,
    url,
)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    stack = LocalStack(Settings(stack=Stack(state_dir=tmp_path)), ())
    yield stack
    stack.down(purge=True)


def get(address: str) -> object:
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 (loopback, http)
        return json.load(answer)


def test_a_prometheus_scrapes_what_it_is_reported_to_and_ends(stack: LocalStack) -> None:
    # It scrapes itself: the port is known only once it is up.
    stack.add(PrometheusServer(Scraping({})))
    up(stack, PROMETHEUS)
    address = url(stack, PROMETHEUS).removeprefix("http://")
    stack.add(PrometheusServer(Scraping({"itself": [address]}, interval_seconds=0.5), "scraper"))
    up(stack, "scraper")
    query = f"{url(stack, 'scraper')}/api/v1/query?query=up"
    until(lambda: '"1"' in json.dumps(get(query)), "a scrape")


def test_an_alertmanager_is_ready_and_has_no_alert(stack: LocalStack) -> None:
    stack.add(AlertmanagerServer())
    up(stack, ALERTMANAGER)
    assert get(f"{url(stack, ALERTMANAGER)}/api/v2/alerts") == []


def test_a_program_that_is_named_and_is_none_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEGATE_ALERTMANAGER", str(tmp_path / "none"))
    with pytest.raises(PartMissing, match="TIDEGATE_ALERTMANAGER"):
        debian_programs.alertmanager()


def test_without_apt_it_is_reported_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PartMissing, match="install the package prometheus-alertmanager"):
        debian_programs.alertmanager()
