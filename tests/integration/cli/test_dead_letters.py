"""`tidegate dead-letters` on a real Kafka."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime

from tests.support.commands import COMMAND, run_here
from tidegate.adapters.kafka.writer import write
from tidegate.schemas.dead_letters import dead_letter
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import DEAD_LETTERS


def environment(kafka: Kafka) -> dict[str, str]:
    return {
        "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TIDEGATE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
    }


def letter(offset: int, reason: str) -> DeadLetter:
    text = f"line {offset}".encode()
    seen_at = datetime(2026, 12, 1, 10, 0, offset, tzinfo=UTC)
    return dead_letter("gateway.access-logs", 0, offset, reason, text, "service-metrics", seen_at)


def publish(kafka: Kafka, *letters: DeadLetter) -> None:
    write(kafka, DEAD_LETTERS, [(letter.id, letter.model_dump_json()) for letter in letters])


def test_letters_are_shown_by_reason_and_those_that_come_are_followed(kafka: Kafka) -> None:
    nothing = run_here("dead-letters", environment=environment(kafka))
    assert (nothing.stdout, "no dead letter matches" in nothing.stderr) == ("", True)
    letters = [
        letter(1, "start_time: 'soon' is not a time"),
        letter(2, "start_time: 'later' is not a time"),
        letter(3, "line: not JSON"),
    ]
    publish(kafka, *letters)

    shown = run_here("dead-letters", environment=environment(kafka)).stdout.splitlines()
    assert [line.split(" ")[0] for line in shown[::2]] == ["2", "1"]
    assert shown[1] == '    gateway.access-logs-0-2: "line 2"'
    some = run_here("dead-letters", "--reason", "json", "--json", environment=environment(kafka)).stdout
    assert [DeadLetter.model_validate_json(line) for line in some.splitlines()] == letters[2:]

    command = (*COMMAND, "dead-letters", "--reason", "json", "--follow", "--json")
    settings = os.environ | environment(kafka)
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert DeadLetter.model_validate_json(process.stdout.readline()) == letters[2]
            coming = letter(4, "line: not JSON")
            publish(kafka, letter(5, "duration: unknown"), coming)
            assert DeadLetter.model_validate_json(process.stdout.readline()) == coming
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                process.kill()
