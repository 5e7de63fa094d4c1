"""Where alerts are sent to: Alertmanager's API v2, and any webhook that takes JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx

from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import to_text

_TIMEOUT_SECONDS = 10
_ANSWER_CHARACTERS = 200


class SendFailed(Exception):
    """A target didn't take the alerts. lasting: it refuses them, so that the same again is no use."""

    def __init__(self, what: str, *, lasting: bool = False) -> None:
        super().__init__(what)
        self.lasting = lasting


class Target(Protocol):
    """One receiver."""

    @property
    def name(self) -> str:
        """For people: what, and where."""

    def send(self, alerts: Sequence[AlertRow], now: datetime) -> None:
        """Send these, whole. Raises SendFailed."""


class Alertmanager:
    """POST /api/v2/alerts. A firing alert ends by itself when it isn't sent again in time, as Prometheus' do."""

    def __init__(self, url: str, resend_seconds: float) -> None:
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        # Four times the interval, as Prometheus: three may be lost before the alert ends.
        self._valid = timedelta(seconds=4 * resend_seconds)
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS)

    @property
    def name(self) -> str:
        """Alertmanager and its URL."""
        return f"Alertmanager at {self._url}"

    def send(self, alerts: Sequence[AlertRow], now: datetime) -> None:
        """Alertmanager tells two alerts apart by their labels."""
        _post(self._client, self.name, self._url, [self._alert(row, now) for row in alerts])

    def _alert(self, row: AlertRow, now: datetime) -> dict[str, Any]:
        ends = row.resolved_at if row.resolved_at is not None else now.astimezone(UTC) + self._valid
        labels = {
            **row.labels,
            "alertname": row.rule,
            "severity": row.severity,
            "level": row.level,
            **{
                name: value
                for name in ("department", "task", "replica")
                if (value := getattr(row, name)) is not None
            },
        }
        annotations = {"summary": row.message}
        if row.runbook_url is not None:
            annotations["runbook_url"] = row.runbook_url
        return {
            "labels": labels,
            "annotations": annotations,
            "startsAt": to_text(row.fired_at or row.started_at),
            "endsAt": to_text(ends),
            "generatorURL": "",
        }


class Webhook:
    """POST of `{"alerts": [row, ...]}`, each row as in tidegate.alerts. Any answer below 300 takes them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS)

    @property
    def name(self) -> str:
        """The URL, without what may be a secret in it."""
        address = httpx.URL(self._url)
        return f"webhook at {address.scheme}://{address.host}"

    def send(self, alerts: Sequence[AlertRow], now: datetime) -> None:
        """All in one request."""
        body = {"alerts": [row.model_dump(mode="json") for row in alerts]}
        _post(self._client, self.name, self._url, body)


def _post(client: httpx.Client, name: str, url: str, body: Any) -> None:
    try:
        answer = client.post(url, json=body)
    except httpx.HTTPError as error:
        raise SendFailed(f"{name} doesn't answer: {type(error).__name__}: {error}") from error
    if answer.status_code >= 300:
        told = answer.text[:_ANSWER_CHARACTERS]
        lasting = 400 <= answer.status_code < 500 and answer.status_code not in (408, 429)
        raise SendFailed(f"{name} answered {answer.status_code}: {told}", lasting=lasting)
