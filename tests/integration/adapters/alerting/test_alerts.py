"""Alerts from rows to a real Alertmanager: the sender, its bad days, and the commands."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.conftest import up
from tests.support.commands import with_settings
from tests.support.signal_rows import alert
from tests.support.waiting import until
from tidegate.adapters.alerting import sender as alert_sender
from tidegate.adapters.alerting.targets import Alertmanager, SendFailed, Webhook
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas import topics
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.schemas.settings.signals import Alerts
from tidegate.stack.local import LocalStack
from tidegate.stack.processes import clean_environment
from tidegate.stack.prometheus import ALERTMANAGER, AlertmanagerServer, url


class Receiver(ThreadingHTTPServer):
    """A real HTTP server that keeps what it is sent. answer: the status of the answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.answer = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def alerts(self) -> list[tuple[str, str]]:
        """Name and status of each alert of each notification, in order."""
        return [(one["labels"]["alertname"], one["status"]) for body in self.bodies for one in body["alerts"]]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.answer < 300:
            self.server.bodies.append(body)
        self.send_response(self.server.answer)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[LocalStack]:
    stack = LocalStack(Settings(stack=Stack(state_dir=tmp_path)), ())
    stack.add(AlertmanagerServer(receiver.url))
    up(stack, ALERTMANAGER)
    yield stack
    stack.down(purge=True)


def now_row(state: str, rule: str = "slow", **fields: Any) -> AlertRow:
    """An alert of just now, as Alertmanager drops what ended long ago."""
    began_ms = int(time.time() * 1000) - 61_000
    return alert(state, rule, began_ms, **fields)


def put(kafka: Kafka, *rows: AlertRow) -> None:
    ensure_topics(kafka, [topics.ALERTS])
    producer = Producer(kafka.client_config())
    for row in rows:
        producer.produce(kafka.topic(topics.ALERTS), row.model_dump_json(), row.alert_key)
    assert producer.flush(30) == 0


def held(address: str) -> list[tuple[str, str, str]]:
    """What Alertmanager holds: name, state and task."""
    with urllib.request.urlopen(f"{address}/api/v2/alerts", timeout=5) as answer:  # noqa: S310 (loopback, http)
        return [
            (one["labels"]["alertname"], one["status"]["state"], one["labels"]["task"])
            for one in json.load(answer)
        ]


@contextmanager
def sending(kafka: Kafka, settings: Alerts) -> Iterator[None]:
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            alert_sender.run(kafka, settings, alert_sender.targets_of(settings), stop)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert failed == []


def test_a_real_alertmanager_gets_firing_and_resolved(
    kafka: Kafka, alertmanager: LocalStack, receiver: Receiver
) -> None:
    address = url(alertmanager, ALERTMANAGER)
    firing = now_row("firing", labels={"team": "chat"}, runbook_url="docs/runbooks.md#errors")
    put(kafka, firing, now_row("pending", "young"), now_row("firing", "quiet", silenced=True))
    with sending(kafka, Alerts(alertmanager_urls=(address,), resend_seconds=1)):
        until(lambda: receiver.alerts() == [("slow", "firing")], "the notification")
        assert held(address) == [("slow", "active", "chat")]
        (one,) = receiver.bodies[0]["alerts"]
        assert one["labels"] | {"team": "chat", "severity": "warning"} == one["labels"]
        assert one["annotations"] == {
            "summary": "p99 of chat is 900 ms",
            "runbook_url": "docs/runbooks.md#errors",
        }
        put(
            kafka,
            firing.model_copy(update={"state": "resolved", "resolved_at": datetime.now(UTC)}),
        )
        until(lambda: receiver.alerts()[1:] == [("slow", "resolved")], "the end")
    assert held(address) == []


def test_an_alertmanager_that_was_away_gets_the_newest_of_each_alert(
    kafka: Kafka, alertmanager: LocalStack, receiver: Receiver
) -> None:
    address = url(alertmanager, ALERTMANAGER)
    settings = Alerts(
        alertmanager_urls=(address,), webhook_url=receiver.url, resend_seconds=1, max_backoff_seconds=1
    )
    alertmanager.down([ALERTMANAGER])
    row = now_row("firing")
    put(kafka, row)
    with sending(kafka, settings):
        # The other receiver doesn't wait for it.
        until(lambda: len(receiver.bodies) > 0, "the webhook")
        assert receiver.bodies[0]["alerts"][0]["id"] == row.id
        ended = row.model_copy(update={"state": "resolved", "resolved_at": datetime.now(UTC)})
        put(kafka, ended, now_row("firing", "errors"))
        receiver.answer = 503
        receiver.bodies.clear()
        restart_on_the_same_port(alertmanager)
        until(lambda: held(address) == [("errors", "active", "chat")], "the newest state")


def restart_on_the_same_port(stack: LocalStack) -> None:
    """A server keeps its ports as long as its folder."""
    before = url_of_earlier(stack)
    up(stack, ALERTMANAGER)
    assert url(stack, ALERTMANAGER) == before or before == ""


def url_of_earlier(stack: LocalStack) -> str:
    return next((server.addresses or {}).get("url", "") for server in stack.status())


def test_an_alert_that_is_refused_holds_up_no_other(receiver: Receiver, alertmanager: LocalStack) -> None:
    """Alertmanager refuses a whole request for one bad label name."""
    address = url(alertmanager, ALERTMANAGER)
    sender = alert_sender.Sending(Alertmanager(address, 60), 60, 1)
    sender.put(now_row("firing", "bad", labels={"no-label-name": "x"}))
    sender.put(now_row("firing", "good"))
    sender.start()
    until(lambda: held(address) == [("good", "active", "chat")], "the good one")
    sender.stop()
    sender.join(10)
    assert not sender.is_alive()


def test_who_does_not_answer_and_who_refuses_are_distinguished(receiver: Receiver) -> None:
    webhook = Webhook(receiver.url + "secret-token")
    for status, lasting in ((503, False), (429, False), (400, True)):
        receiver.answer = status
        with pytest.raises(SendFailed) as failed:
            webhook.send([now_row("firing")], datetime.now(UTC))
        assert failed.value.lasting is lasting
        assert "secret-token" not in str(failed.value)


def command(kafka: Kafka, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    given = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "stack.state_dir": str(tmp_path),
    }
    return subprocess.Popen(
        (*with_settings(given), *arguments),
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_commands(kafka: Kafka, tmp_path: Path, receiver: Receiver) -> None:
    put(kafka, now_row("firing"), now_row("resolved", "over"))
    listing = command(kafka, tmp_path, "alerts", "list")
    output, _ = listing.communicate(timeout=60)
    assert listing.returncode == 0, output
    assert "firing   warning  slow" in output
    assert "over" not in output

    sender = command(kafka, tmp_path, "--set", f"alerts.webhook_url={receiver.url}", "alerts", "send")
    until(lambda: len(receiver.bodies) > 0, "the webhook")
    sender.send_signal(signal.SIGTERM)
    output, _ = sender.communicate(timeout=60)
    assert sender.returncode == 0, output
    assert "requests accepted" in output

    nowhere = command(kafka, tmp_path, "alerts", "send")
    output, _ = nowhere.communicate(timeout=60)
    assert nowhere.returncode == 2, output
    assert "alerts.alertmanager_urls and alerts.webhook_url" in output
