"""The log shipper against a real Kafka: what arrives, what is refused, and what an absent broker does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.support.kafka_messages import messages as everything
from tests.support.lines import at, line
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.shipping.sender import Destination
from tidegate.adapters.shipping.shipper import LogShipper, access_logs
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.settings import Kafka, Settings, Shipper
from tidegate.schemas.topics import ACCESS_LOGS, DEAD_LETTERS, INFERENCE_LOGS, Topic
from tidegate.stack.local import LocalStack

PATIENCE_SECONDS = 90


@dataclass
class Place:
    """A log, the settings of a shipper that follows it, and what Kafka has of it."""

    folder: Path
    kafka: Kafka

    @property
    def log(self) -> Path:
        return self.folder / "access.log"

    def settings(self, **shipper: object) -> Settings:
        values = {
            "files": (str(self.folder / "access.log"),),
            "state_dir": self.folder / "state",
            "poll_ms": 10,
            "rotated_wait_seconds": 0.5,
        } | shipper
        return Settings(kafka=self.kafka, shipper=Shipper.model_validate(values))

    def write(self, lines: Sequence[bytes]) -> None:
        with self.log.open("ab") as out:
            out.write(b"".join(text + b"\n" for text in lines))

    def arrived(self, topic: Topic = ACCESS_LOGS) -> list[bytes]:
        return [message.value() or b"" for message in self.messages(topic)]

    def messages(self, topic: Topic = ACCESS_LOGS) -> list[Message]:
        return list(everything(self.kafka, topic))

    def letters(self) -> list[DeadLetter]:
        return [DeadLetter.model_validate_json(value) for value in self.arrived(DEAD_LETTERS)]


@pytest.fixture
def place(kafka: Kafka, tmp_path: Path) -> Place:
    return Place(tmp_path, kafka)


def numbered(*numbers: int) -> list[bytes]:
    return [line(request_id=str(number), start_time=at(number / 1000)).encode() for number in numbers]


def number_of(text: bytes) -> int:
    return int(json.loads(text)["request_id"])


def ship(shipper: LogShipper, lines: int, dead: int = 0) -> None:
    """Until so many lines and dead letters have arrived, since this shipper's start."""
    until(
        lambda: shipper.counts.lines >= lines and shipper.counts.dead >= dead,
        step=lambda: shipper.step(time.monotonic()),
    )


def command(place: Place, *more: str) -> list[str]:
    state = ("--state-dir", str(place.folder / "state"))
    return [sys.executable, "-m", "tidegate.cli.main", *more, "ship", str(place.log), *state]


def environment(place: Place) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return clean | {
        "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": place.kafka.bootstrap_servers,
        "TIDEGATE_KAFKA__TOPIC_PREFIX": place.kafka.topic_prefix,
        "TIDEGATE_SHIPPER__POLL_MS": "10",
        "TIDEGATE_SHIPPER__ROTATED_WAIT_SECONDS": "1",
    }


def start(place: Place) -> subprocess.Popen[bytes]:
    with (place.folder / "shipper.out").open("ab") as out:
        return subprocess.Popen(
            command(place), env=environment(place), stdout=out, stderr=out, cwd=place.folder
        )


# What arrives


def test_every_line_arrives_untouched_without_a_key_and_in_order(place: Place) -> None:
    odd = [
        b"\xff\xfe not UTF-8 \x00\x01",
        b'{"a": "\\u00e9"}',
        "é漢".encode(),
        b" spaces \t ",
        b"x" * 300_000,
    ]
    place.log.write_bytes(odd[0] + b"\r\n\n" + b"\n".join(odd[1:]) + b"\n\r\n")
    with LogShipper(place.settings()) as shipper:
        ship(shipper, len(odd))
        assert shipper.counts.empty == 2
    assert sorted(place.arrived()) == sorted(odd)
    assert all(message.key() is None for message in place.messages())


def test_each_partition_gets_its_lines_in_the_files_order(place: Place) -> None:
    lines = numbered(*range(3000))
    place.write(lines)
    with LogShipper(place.settings()) as shipper:
        ship(shipper, len(lines))
    by_partition: dict[int | None, list[int]] = {}
    for message in place.messages():
        by_partition.setdefault(message.partition(), []).append(number_of(message.value() or b""))
    assert len(by_partition) == place.kafka.partitions
    for numbers in by_partition.values():
        assert numbers == sorted(numbers)
    assert sorted(number for numbers in by_partition.values() for number in numbers) == list(range(3000))


def test_another_destination_gives_lines_keys_of_their_own(place: Place) -> None:
    def keyed(lines: Sequence[bytes], path: Path) -> list[dict[str, object]]:
        return [{"value": text.upper(), "key": path.stem.encode()} for text in lines]

    place.write([b"one", b"two"])
    destination = Destination(INFERENCE_LOGS, keyed, keyed=True)
    settings = place.settings()
    cargo = replace(access_logs(settings), destination=destination)
    with LogShipper(settings, cargo) as shipper:
        ship(shipper, 2)
    messages = place.messages(INFERENCE_LOGS)
    assert [(message.key(), message.value()) for message in messages] == [
        (b"access", b"ONE"),
        (b"access", b"TWO"),
    ]


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd", "snappy", "gzip"])
def test_every_compression_that_can_be_set_works(place: Place, compression: str) -> None:
    place.write(numbered(*range(200)))
    with LogShipper(place.settings(compression=compression)) as shipper:
        ship(shipper, 200)
    assert sorted(place.arrived()) == sorted(numbered(*range(200)))


# What is refused


def test_an_overlong_line_is_a_dead_letter_that_names_file_and_byte(place: Place) -> None:
    before, after = numbered(1), numbered(2)
    place.write([*before, b"y" * 5000, *after])
    for _ in range(2):  # the second time from the start, as after a crash
        (place.folder / "state" / "offsets.json").unlink(missing_ok=True)
        with LogShipper(place.settings(max_line_bytes=4096)) as shipper:
            ship(shipper, 2, dead=1)
    assert sorted(place.arrived()) == sorted(2 * (before + after))
    first, second = place.letters()
    assert first.id == second.id
    assert f"@{len(before[0]) + 1}|shipper" in first.id
    assert first.topic == place.kafka.topic(ACCESS_LOGS)
    assert (first.partition, first.offset) == (None, None)
    assert "shipper.max_line_bytes (4096)" in first.reason
    assert f"{place.log}, byte {len(before[0]) + 1}" in first.reason
    assert first.excerpt == "y" * 1000


def make_topic(kafka: Kafka, max_message_bytes: int) -> None:
    ensure_topics(kafka, [DEAD_LETTERS])
    topic = NewTopic(
        kafka.topic(ACCESS_LOGS),
        num_partitions=1,
        replication_factor=1,
        config={"max.message.bytes": str(max_message_bytes)},
    )
    client = AdminClient({**kafka.client_config()})
    for made in client.create_topics([topic]).values():
        made.result(30)


def limit_topic(kafka: Kafka, max_message_bytes: int) -> None:
    entry = ConfigEntry(
        "max.message.bytes", str(max_message_bytes), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, kafka.topic(ACCESS_LOGS), incremental_configs=[entry])
    client = AdminClient({**kafka.client_config()})
    for changed in client.incremental_alter_configs([resource]).values():
        changed.result(30)


def test_a_line_that_kafka_refuses_is_a_dead_letter_and_no_stall(place: Place) -> None:
    make_topic(place.kafka, 20_000)
    lines = numbered(*range(200))
    noise = [os.urandom(20_000).hex().encode() for _ in range(2)]
    place.write([*lines[:100], noise[0], *lines[100:150], noise[1], *lines[150:]])
    with LogShipper(place.settings()) as shipper:
        ship(shipper, 200, dead=2)
    assert sorted(place.arrived()) == sorted(lines)
    starts = [sum(len(text) + 1 for text in lines[:100])]
    starts.append(starts[0] + len(noise[0]) + 1 + sum(len(text) + 1 for text in lines[100:150]))
    letters = {int(letter.id.partition("@")[2].partition("|")[0]): letter for letter in place.letters()}
    assert sorted(letters) == starts
    assert letters[starts[0]].excerpt == noise[0][:1000].decode()
    assert "Kafka refuses a message of 40000 bytes" in letters[starts[0]].reason


def test_a_refused_batch_of_good_lines_is_sent_line_by_line(place: Place) -> None:
    make_topic(place.kafka, 1_000_000)
    with LogShipper(place.settings(compression="none")) as shipper:
        place.write(numbered(0))
        ship(shipper, 1)
        limit_topic(place.kafka, 5_000)  # the shipper has read the former limit, and makes batches for that
        place.write(numbered(*range(1, 300)))
        ship(shipper, 300)
        assert shipper.counts.dead == 0
    assert sorted(map(number_of, place.arrived())) == list(range(300))


@pytest.mark.slow
def test_a_topic_that_is_deleted_is_made_again(place: Place) -> None:
    with LogShipper(place.settings()) as shipper:
        place.write(numbered(*range(100)))
        ship(shipper, 100)
        client = AdminClient({**place.kafka.client_config()})
        topic = place.kafka.topic(ACCESS_LOGS)
        client.delete_topics([topic])[topic].result(30)
        until(lambda: topic not in client.list_topics(timeout=30).topics)
        place.write(numbered(*range(100, 200)))
        ship(shipper, 200)
    assert {number_of(text) for text in place.arrived()} >= set(range(100, 200))


# The command


def test_the_command_follows_ends_on_sigterm_and_goes_on_later(place: Place) -> None:
    place.write(numbered(*range(50)))
    process = start(place)
    until(lambda: len(place.arrived()) == 50)
    place.write(numbered(50))
    place.log.rename(place.folder / "access.log.1")
    place.write(numbered(51))
    until(lambda: len(place.arrived()) == 52)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    place.write(numbered(52))
    process = start(place)
    until(lambda: len(place.arrived()) == 53)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    assert sorted(map(number_of, place.arrived())) == list(range(53))


def test_the_command_sends_at_its_end_what_it_has_read(place: Place) -> None:
    process = start(place)
    place.write(numbered(0))
    until(lambda: len(place.arrived()) == 1)
    for number in range(1, 40):
        place.write(numbered(number))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    sent = len(place.arrived())
    with LogShipper(place.settings()) as shipper:
        ship(shipper, 40 - sent)
    assert sorted(map(number_of, place.arrived())) == list(range(40))


def test_a_second_shipper_on_the_same_state_is_refused(place: Place) -> None:
    place.write(numbered(0))
    process = start(place)
    until(lambda: len(place.arrived()) == 1)
    second = subprocess.run(
        command(place),
        env=environment(place),
        cwd=place.folder,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert second.returncode == 1
    assert b"in use by another shipper" in second.stderr
    assert str(process.pid).encode() in second.stderr


def test_nothing_to_follow_is_wrong_use(place: Place) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tidegate.cli.main", "ship"],
        env=environment(place),
        cwd=place.folder,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert result.returncode == 2
    assert b"shipper.files" in result.stderr


def test_killed_again_and_again_while_the_log_rotates_it_loses_no_line(place: Place) -> None:
    place.write(numbered(0))
    written = 1
    process = start(place)
    until((place.folder / "state" / "offsets.json").exists)
    for round_ in range(6):
        for _ in range(20):
            place.write(numbered(*range(written, written + 50)))
            written += 50
            time.sleep(0.01)
        rotated = place.folder / f"access.log.{1_790_000_000 + round_}"
        if round_ % 2:
            place.log.rename(rotated)
        else:
            rotated.write_bytes(place.log.read_bytes())
            os.truncate(place.log, 0)
        if round_ % 3 == 0:
            subprocess.run(["gzip", str(rotated)], check=True)  # noqa: S607
        if round_ % 2:  # else it dies before it has looked at anything
            enough = written - 500
            until(lambda enough=enough: len({*place.arrived()}) >= enough)  # type: ignore[misc]
        process.kill()
        process.wait(PATIENCE_SECONDS)
        process = start(place)
    place.write(
        numbered(written)
    )  # by the last one alone: it runs, and takes a signal, once this has arrived
    written += 1
    until(lambda: {number_of(text) for text in place.arrived()} >= set(range(written)))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert {number_of(text) for text in place.arrived()} == set(range(written))


# Kafka away


def test_a_broker_that_hangs_is_waited_for_in_bounded_memory(
    own_kafka: Kafka, own_stack: LocalStack, tmp_path: Path
) -> None:
    place = Place(tmp_path, own_kafka)
    [broker] = [status.pid for status in own_stack.status() if status.name == "kafka"]
    assert broker is not None
    with LogShipper(place.settings(buffer_mib=8)) as shipper:
        place.write(numbered(0))
        ship(shipper, 1)
        bulk = [line(request_id=str(number), size=1500).encode() for number in range(1, 40_001)]  # 60 MB
        before = psutil.Process().memory_info().rss
        os.kill(broker, signal.SIGSTOP)
        try:
            for start_ in range(0, 40_000, 4000):
                place.write(bulk[start_ : start_ + 4000])
                for _ in range(10):
                    shipper.step(time.monotonic())
            assert 7 * 1_048_576 < shipper.bytes_held < 9 * 1_048_576
            assert psutil.Process().memory_info().rss - before < 40 * 1_048_576
        finally:
            os.kill(broker, signal.SIGCONT)
        ship(shipper, 40_001)
    assert sorted(map(number_of, place.arrived())) == list(range(40_001))


def test_a_broker_that_dies_and_comes_back_has_every_line(
    own_kafka: Kafka, own_stack: LocalStack, tmp_path: Path
) -> None:
    place = Place(tmp_path, own_kafka)
    stop = threading.Event()
    with LogShipper(place.settings()) as shipper:
        running = threading.Thread(target=shipper.run, args=(stop.is_set,))
        running.start()
        try:
            for number in range(0, 2000, 100):
                place.write(numbered(*range(number, number + 100)))
                if number == 500:
                    own_stack.kill("kafka")
                if number == 1000:
                    place.log.rename(tmp_path / "access.log.1")
                time.sleep(0.02)
            own_stack.up(["kafka"])
            until(lambda: shipper.counts.lines >= 2000)
        finally:
            stop.set()
            running.join(PATIENCE_SECONDS)
    assert sorted(map(number_of, place.arrived())) == list(range(2000))


@pytest.mark.slow
def test_it_may_start_before_kafka_and_end_while_kafka_is_away(
    own_kafka: Kafka, own_stack: LocalStack, tmp_path: Path
) -> None:
    place = Place(tmp_path, own_kafka)
    own_stack.kill("kafka")
    place.write(numbered(*range(10)))
    stop = threading.Event()
    with LogShipper(place.settings(flush_seconds=0.5)) as shipper:
        until(lambda: shipper.idle is False, step=lambda: shipper.step(time.monotonic()))
        stop.set()
        shipper.run(stop.is_set)
    with LogShipper(place.settings()) as shipper:
        for _ in range(5):
            shipper.step(time.monotonic())
        own_stack.up(["kafka"])
        ship(shipper, 10)
    assert sorted(map(number_of, place.arrived())) == list(range(10))
