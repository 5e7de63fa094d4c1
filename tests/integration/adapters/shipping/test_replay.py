"""`tidegate replay` into a real Kafka."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.adapters.shipping.test_ship import (
    PATIENCE_SECONDS,
    Place,
    environment,
    number_of,
    numbered,
)
from tests.support.commands import run_here
from tests.support.lines import at, line
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.shipping.replay_lines import time_of
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import ACCESS_LOGS


@pytest.fixture
def place(kafka: Kafka, tmp_path: Path) -> Place:
    return Place(tmp_path, kafka)


def run(place: Place, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    return run_here(
        "replay", *map(str, arguments), code=code, folder=place.folder, environment=environment(place)
    )


def test_plain_and_compressed_files_go_in_the_order_given(place: Place) -> None:
    place.write(numbered(*range(50, 100)))
    compressed = place.folder / "older"  # known by its content, whatever its name
    compressed.write_bytes(gzip.compress(b"\n".join(numbered(*range(50))) + b"\n"))
    result = run(place, compressed, place.log, "--partition", "1")
    assert result.stdout.startswith("100 lines sent")
    assert [number_of(text) for text in place.arrived()] == list(range(100))
    assert {message.partition() for message in place.messages()} == {1}


def test_lines_are_spread_and_bad_ones_go_as_they_are(place: Place) -> None:
    bad = [b"not JSON", b"\xff\xfe", b'{"start_time": 5}']
    lines = numbered(*range(2000))
    place.write([*lines[:1000], *bad, b"", *lines[1000:]])
    result = run(place, place.log)
    assert result.stdout.startswith("2003 lines sent")
    assert "1 empty" in result.stdout
    assert sorted(place.arrived()) == sorted([*lines, *bad])
    assert len({message.partition() for message in place.messages()}) > 1


def test_shifted_to_now_the_last_request_has_just_ended_and_nothing_else_has_changed(place: Place) -> None:
    lines = [line(start_time=at(n), duration=400, request_id=str(n)).encode() for n in (0, 90, 30)]
    place.write([lines[0], b"bad", *lines[1:]])
    before_ms = time.time_ns() // 1_000_000
    result = run(place, place.log, "--shift-to-now", "--partition", "0")
    after_ms = time.time_ns() // 1_000_000
    assert "1 without a time" in result.stdout
    arrived = place.arrived()
    assert arrived.pop(1) == b"bad"
    ends = [made.end_ms for made in map(time_of, arrived) if made is not None]
    assert [end - ends[0] for end in ends] == [0, 90_000, 30_000]
    assert before_ms - 1000 <= max(ends) <= after_ms
    for text, original in zip(arrived, lines, strict=True):
        assert json.loads(text) | {"start_time": ""} == json.loads(original) | {"start_time": ""}


def test_at_its_own_pace_no_line_goes_before_its_time(place: Place) -> None:
    lines = [line(start_time=at(n / 10), duration=5, request_id=str(n)).encode() for n in range(31)]
    place.write(lines)
    run(place, place.log, "--speed", "2", "--shift-to-now", "--partition", "0")
    messages = place.messages()
    assert [number_of(message.value() or b"") for message in messages] == list(range(31))
    sent_ms = [message.timestamp()[1] for message in messages]
    for number, sent in enumerate(sent_ms):
        assert sent - sent_ms[0] >= number * 50 - 60  # half of 100 ms each; the first may wait for its batch


def test_an_interrupted_replay_reports_how_many_lines_it_sent(place: Place) -> None:
    place.write([line(start_time=at(0)).encode(), line(start_time=at(3600)).encode()])
    process = subprocess.Popen(
        [sys.executable, "-m", "tidegate.cli.main", "replay", str(place.log), "--speed", "1"],
        env=environment(place),
        cwd=place.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(place.arrived()) == 1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert out.startswith("1 line sent")


def test_a_line_that_is_too_long_is_a_dead_letter(place: Place) -> None:
    place.write([*numbered(1), b"x" * 1_200_000, *numbered(2)])
    result = run(place, place.log)
    assert "2 lines sent" in result.stdout
    assert "1 too long for Kafka" in result.stdout
    [letter] = place.letters()
    assert letter.excerpt == "x" * 1000


def test_wrong_use_is_reported_before_anything_is_sent(place: Place) -> None:
    place.write(numbered(1))
    ensure_topics(place.kafka, [ACCESS_LOGS])
    assert "No such file" in run(place, place.log, place.folder / "missing.log", code=1).stderr
    assert "topic" in run(place, place.log, "--partition", "99", code=1).stderr
    assert "--speed fast" in run(place, place.log, "--speed", "fast", code=2).stderr
    place.log.write_bytes(b"no time here\n")
    assert "start_time" in run(place, place.log, "--shift-to-now", code=1).stderr
    assert place.arrived() == []
