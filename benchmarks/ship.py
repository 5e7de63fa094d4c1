"""How fast the log shipper is, against producing the same lines from memory: `python -m benchmarks.ship`.

Starts a Kafka for itself, and removes it afterwards. Both ways send the same lines of about 1.5 KB into a
topic of three partitions on the same broker, in turns, from one core (this process is bound to it; the broker
has all): what else the machine does hits both. The floor does nothing but produce: no file, no splitting, no
delivery reports, no offsets on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from benchmarks.lines import Shape, batches
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.shipping.shipper import LogShipper
from tidegate.schemas.settings import Kafka, Settings, Shipper, Stack
from tidegate.schemas.topics import ACCESS_LOGS, DEAD_LETTERS
from tidegate.stack import local_stack

MEMORY_LINES = 50_000
FLOOR_BATCH = 170
"""Lines in one call: as many as the shipper's chunk of 256 KiB has."""


@dataclass(frozen=True)
class Run:
    """Lines per second of the clock, and per second of processor time (all threads of this process)."""

    lines_per_second: float
    lines_per_cpu_second: float


def measured(lines: int, work: Callable[[], None]) -> Run:
    """One run of something that sends so many lines."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(lines / seconds, lines / cpu)


def floor(kafka: Kafka, shipper: Shipper, lines: list[bytes], repeat: int) -> Run:
    """Produce the lines from memory, with the shipper's own producer settings."""
    producer = Producer(
        {
            **kafka.client_config(),
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "compression.type": shipper.compression,
            "linger.ms": shipper.linger_ms,
            "batch.size": shipper.batch_bytes,
            "batch.num.messages": 1_000_000,
            "queue.buffering.max.kbytes": shipper.buffer_mib * 512,  # the shipper counts each byte twice
            "queue.buffering.max.messages": 10_000_000,
        }
    )
    topic = kafka.topic(ACCESS_LOGS)
    partitions = len(producer.list_topics(topic, timeout=10).topics[topic].partitions)
    producer.produce(topic, b"{}")  # the producer has its id before the clock starts
    producer.flush(30)

    def work() -> None:
        turn = 0
        for _ in range(repeat):
            for start in range(0, len(lines), FLOOR_BATCH):
                messages = [{"value": line} for line in lines[start : start + FLOOR_BATCH]]
                turn = (turn + 1) % partitions
                while producer.produce_batch(topic, messages, turn) < len(messages):
                    messages = [message for message in messages if message.pop("_error", None) is not None]
                    producer.poll(0.01)
                producer.poll(0)
        if producer.flush(120):
            raise RuntimeError("Kafka did not take all lines in 120 s")

    return measured(len(lines) * repeat, work)


def ship(kafka: Kafka, shipper: Shipper, lines: int) -> Run:
    """Ship a file from its beginning until Kafka has all of it and the offset is on disk."""
    settings = Settings(kafka=kafka, shipper=shipper)
    shutil.rmtree(settings.shipper_state_dir(), ignore_errors=True)
    deadline = time.monotonic() + 300
    with LogShipper(settings) as shipping:

        def work() -> None:
            while shipping.counts.lines < lines:
                shipping.step(time.monotonic())
                if time.monotonic() > deadline:
                    raise RuntimeError(f"only {shipping.counts.lines} of {lines} lines shipped in 300 s")
            shipping.save()

        shipping.connect(30)
        run = measured(lines, work)
        if shipping.counts.resent or shipping.counts.dead:
            raise RuntimeError(f"not a clean run: {shipping.counts}")
        return run


def count(kafka: Kafka) -> int:
    """Messages in the topic now."""
    from confluent_kafka import Consumer, TopicPartition  # noqa: PLC0415

    consumer = Consumer({**kafka.client_config(), "group.id": "counter"})
    topic = kafka.topic(ACCESS_LOGS)
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, partition)) for partition in partitions]
    consumer.close()
    return sum(end - begin for begin, end in ends)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=300_000, help="of each run, a multiple of 50000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", default="lz4")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    repeat = max(1, chosen.lines // MEMORY_LINES)
    lines = [line for batch in batches(Shape(), MEMORY_LINES) for line in batch]
    total = len(lines) * repeat
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-ship-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        log = folder / "access.log"
        with log.open("wb") as out:
            for _ in range(repeat):
                out.write(b"\n".join(lines) + b"\n")
        shipper = Shipper(files=(str(log),), state_dir=folder / "ship", compression=chosen.compression)
        stack = local_stack(Settings(stack=Stack(state_dir=folder / "stack")))
        try:
            stack.up(["kafka"])
            os.sched_setaffinity(0, {core})
            floors, shipped = [], []
            for round_ in range(chosen.rounds + 1):
                for runs, way in (
                    (floors, lambda kafka: floor(kafka, shipper, lines, repeat)),
                    (shipped, lambda kafka: ship(kafka, shipper, total)),
                ):
                    kafka = stack.settings.kafka.model_copy(update={"topic_prefix": f"b{time.time_ns()}."})
                    ensure_topics(kafka, [ACCESS_LOGS, DEAD_LETTERS])
                    run = way(kafka)
                    if count(kafka) < total:
                        raise RuntimeError(f"{count(kafka)} of {total} lines are in Kafka")
                    if round_:  # the first warms the broker
                        runs.append(run)
                    client = AdminClient({**kafka.client_config()})
                    for deleted in client.delete_topics([kafka.topic(ACCESS_LOGS)]).values():
                        deleted.result(30)
        finally:
            stack.down(purge=True)
    report(total, sum(map(len, lines)) / len(lines), floors, shipped, chosen.json)


def report(total: int, line_bytes: float, floors: list[Run], shipped: list[Run], out: Path | None) -> None:
    """Print the medians, and the ratio of each round."""
    ratio = statistics.median(
        ours.lines_per_second / theirs.lines_per_second for ours, theirs in zip(shipped, floors, strict=True)
    )
    print(f"{total} lines of {line_bytes:.0f} bytes a run, {len(shipped)} rounds, one core; medians")
    for name, runs in (("floor: produce from memory", floors), ("shipper: file to Kafka", shipped)):
        rate = statistics.median(run.lines_per_second for run in runs)
        cpu = statistics.median(run.lines_per_cpu_second for run in runs)
        print(f"  {name:28} {rate:10,.0f} lines/s   {cpu:10,.0f} lines per second of processor time")
    print(f"  ratio shipper / floor         {ratio:9.2f}   (aim: 100,000 lines/s)")
    if out is not None:
        figures = {
            "ratio": ratio,
            "floor": [asdict(r) for r in floors],
            "shipper": [asdict(r) for r in shipped],
        }
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
