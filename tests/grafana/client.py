"""A Grafana that somebody has started, by its HTTP API: data source, dashboards, and the queries of panels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.dashboards.data_source import TIME_FIELD, index_pattern
from tests.support.dashboards.interpolation import View
from tests.support.dashboards.searches import as_sent
from tidegate.schemas.settings import Elasticsearch

DATA_SOURCE = "tidegate-test"


class Grafana:
    """Its HTTP API. What was loaded is removed at the end."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60)
        self._loaded: list[str] = []

    def load(self, dashboard: dict[str, Any]) -> None:
        """Loads a dashboard under a uid of the test's own, which Grafana then gives back unchanged in its panels."""
        uid = f"test-{dashboard['uid']}"[:40]
        mine = {**dashboard, "uid": uid, "title": f"{dashboard['title']} (test)"}
        self._ask("POST", "/api/dashboards/db", {"dashboard": mine, "overwrite": True})
        self._loaded.append(uid)
        back = self._ask("GET", f"/api/dashboards/uid/{uid}")["dashboard"]
        assert [panel["title"] for panel in back["panels"]] == [panel["title"] for panel in mine["panels"]]

    def problems(self, panel: dict[str, Any], view: View) -> list[str]:
        """What is wrong with the answers to a panel's queries."""
        body = {
            "from": str(view.from_ms),
            "to": str(view.to_ms),
            "queries": [as_sent(target, view, DATA_SOURCE) for target in panel["targets"]],
        }
        results = self._ask("POST", "/api/ds/query", body)["results"]
        found = []
        for target in panel["targets"]:
            ref = target["refId"]
            result = results.get(ref, {})
            if result.get("error"):
                found.append(f"{ref}: {result['error']}")
            elif not target.get("hide") and not _has_value(result.get("frames", [])):
                found.append(f"{ref}: no data")
        return found

    def add_data_source(self, elasticsearch: Elasticsearch) -> None:
        """The data source of the dashboards, as provisioned."""
        indices = index_pattern(elasticsearch.index_prefix)
        body = {
            "name": DATA_SOURCE,
            "uid": DATA_SOURCE,
            "type": "elasticsearch",
            "access": "proxy",
            "url": elasticsearch.url,
            "database": indices,
            "jsonData": {"index": indices, "timeField": TIME_FIELD, "logMessageField": "message"},
        }
        self._http.delete(f"/api/datasources/uid/{DATA_SOURCE}")
        self._ask("POST", "/api/datasources", body)

    def close(self) -> None:
        """Removes what was loaded."""
        for uid in self._loaded:
            self._http.delete(f"/api/dashboards/uid/{uid}")
        self._http.delete(f"/api/datasources/uid/{DATA_SOURCE}")
        self._http.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body)
        # A query that fails is answered with 400 or 500 and its error in the body, beside the other results.
        if path != "/api/ds/query":
            answer.raise_for_status()
        return answer.json()


@contextmanager
def grafana_at(url: str, token: str | None, elasticsearch: Elasticsearch) -> Iterator[Grafana]:
    """This Grafana, with a data source that reads this Elasticsearch."""
    grafana = Grafana(url, token)
    try:
        grafana.add_data_source(elasticsearch)
        yield grafana
    finally:
        grafana.close()


def _has_value(frames: list[dict[str, Any]]) -> bool:
    return any(
        value is not None
        for frame in frames
        for column in frame.get("data", {}).get("values", [])
        for value in column
    )
