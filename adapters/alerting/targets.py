"""The receivers of alerts: Alertmanager's API v2, and webhooks that accept JSON."""

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
    """A target did not accept the alerts. lasting: it rejects them, so a retry would not help."""

    def __init__(self, what: str, *, lasting: bool = False) -> None:
        super().__init__(what)
        self.lasting = lasting


class Target(Protocol):
    """A receiver of alerts."""

    @property
    def name(self) -> str:
        """The kind of receiver and its address, for people."""

    def send(self, alerts: Sequence[AlertRow], now: datetime) -> None:
        """Send all of these alerts. Raises SendFailed."""


class Alertmanager:
    """POST /api/v2/alerts. A firing alert expires if it is not sent again in time, as from Prometheus."""

    def __init__(self, url: str, resend_seconds: float) -> None:
        self._url = f"{url.rstrip('/')}/api/v2/alerts"
        # Four times the interval, as in Prometheus: three requests may fail before the alert expires.
        self._valid = timedelta(seconds=4 * resend_seconds)
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS)

    @property
    def name(self) -> str:
        """Alertmanager and its URL."""
        return f"Alertmanager at {self._url}"

    def send(self, alerts: Sequence[AlertRow], now: datetime) -> None:
        """Send these alerts; Alertmanager identifies an alert by its labels."""
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
    """POST of `{"alerts": [row, ...]}`, each row as in tidegate.alerts. Any status below 300 acknowledges them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS)

    @property
    def name(self) -> str:
        """The scheme and host of the URL, whose rest may be a secret."""
        address = httpx.URL(self._url)
        return f"webhook at {address.scheme}://{address.host}"

    def send(self, alerts: Sequence[AlertRow], now: datetime) -> None:
        """Send all in one request."""
        body = {"alerts": [row.model_dump(mode="json") for row in alerts]}
        _post(self._client, self.name, self._url, body)


def _post(client: httpx.Client, name: str, url: str, body: Any) -> None:
    try:
        answer = client.post(url, json=body)
    except httpx.HTTPError as error:
        raise SendFailed(f"{name} doesn't answer: {type(error).__name__}: {error}") from error
    if answer.status_code >= 300:
        excerpt = answer.text[:_ANSWER_CHARACTERS]
        lasting = 400 <= answer.status_code < 500 and answer.status_code not in (408, 429)
        raise SendFailed(f"{name} answers {answer.status_code}: {excerpt}", lasting=lasting)
