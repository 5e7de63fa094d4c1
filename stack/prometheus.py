"""Prometheus and Alertmanager on loopback, for tests and the demo."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.stack import debian_programs as programs
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import HOST
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place, UsualFolder

PROMETHEUS = "prometheus"
ALERTMANAGER = "alertmanager"
_CONFIG = "config.yml"


@dataclass(frozen=True)
class Scraping:
    """The scrape targets and remote-write receivers of a Prometheus.

    targets: by job, each host:port. remote_write_urls: each gets every sample. external_labels: beside every sample.
    """

    targets: Mapping[str, Sequence[str]]
    remote_write_urls: Sequence[str] = ()
    interval_seconds: float = 15
    external_labels: Mapping[str, str] | None = None

    def config(self) -> dict[str, Any]:
        """The Prometheus configuration."""
        interval = f"{round(self.interval_seconds * 1000)}ms"
        return {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "external_labels": dict(self.external_labels or {}),
            },
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(targets)}]}
                for job, targets in self.targets.items()
            ],
            "remote_write": [
                {
                    "url": url,
                    # The default waits 5 s for a batch of few samples.
                    "queue_config": {"batch_send_deadline": "500ms", "max_backoff": "1s"},
                }
                for url in self.remote_write_urls
            ],
        }


class _HttpServer(UsualFolder):
    """A server with a YAML configuration (JSON is YAML) and a readiness endpoint at /-/ready."""

    name: str

    @property
    def ports(self) -> Mapping[str, int]:
        """One, for its API and pages."""
        return {"http": 0}

    def problem(self, place: Place) -> str | None:
        """Ready when /-/ready succeeds."""
        try:
            urllib.request.urlopen(f"{_url(place)}/-/ready", timeout=1.5).close()  # noqa: S310 (loopback, http)
        except OSError as error:
            return f"it isn't ready yet: {error}"
        return None

    def addresses(self, place: Place) -> dict[str, str]:
        """Its pages."""
        return {"url": _url(place)}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """None."""
        return {}


class PrometheusServer(_HttpServer):
    """Prometheus, with its data in its folder."""

    def __init__(self, scraping: Scraping, name: str = PROMETHEUS, retention: str = "1h") -> None:
        self.name = name
        self._scraping = scraping
        self._retention = retention

    def prepare(self, place: Place) -> Launch:
        """Write its configuration."""
        config = place.folder / _CONFIG
        config.write_text(json.dumps(self._scraping.config(), indent=1))
        return Launch(
            (
                str(programs.prometheus()),
                f"--config.file={config}",
                f"--storage.tsdb.path={place.folder / 'data'}",
                f"--storage.tsdb.retention.time={self._retention}",
                f"--web.listen-address={HOST}:{place.ports['http']}",
                "--log.level=warn",
            ),
            place.folder,
        )


class AlertmanagerServer(_HttpServer):
    """A single Alertmanager that sends every notification to one webhook without delay."""

    name = ALERTMANAGER

    def __init__(self, webhook_url: str | None = None) -> None:
        """webhook_url: the receiver of notifications; None for no receiver."""
        self._webhook_url = webhook_url

    def prepare(self, place: Place) -> Launch:
        """Write its configuration."""
        receiver: dict[str, Any] = {"name": "webhook"}
        if self._webhook_url is not None:
            receiver["webhook_configs"] = [{"url": self._webhook_url, "send_resolved": True}]
        program = programs.alertmanager()
        link, templates = place.folder / "templates", programs.alertmanager_templates()
        if templates is not None and not link.is_symlink():
            link.symlink_to(templates)
        config = place.folder / _CONFIG
        config.write_text(
            json.dumps(
                {
                    "global": {"resolve_timeout": "300s"},
                    "route": {
                        "receiver": "webhook",
                        "group_by": ["alertname", "department", "task"],
                        "group_wait": "1s",
                        "group_interval": "1s",
                        "repeat_interval": "1h",
                    },
                    "receivers": [receiver],
                },
                indent=1,
            )
        )
        return Launch(
            (
                str(program),
                f"--config.file={config}",
                f"--storage.path={place.folder / 'data'}",
                f"--web.listen-address={HOST}:{place.ports['http']}",
                "--cluster.listen-address=",  # a single instance, without gossip
                "--log.level=warn",
            ),
            place.folder,
        )


def url(stack: LocalStack, name: str) -> str:
    """The `url` of a server of this stack. The server must be up."""
    (found,) = ((server.addresses or {}).get("url") for server in stack.status() if server.name == name)
    return found or ""


def _url(place: Place) -> str:
    return f"http://{HOST}:{place.ports['http']}"
