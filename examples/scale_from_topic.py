"""Follows tidegate.autoscaling-signals and prints what a custom scaler would do. It must keep these rules:

    python examples/scale_from_topic.py kafka-1:9092 [TOPIC]

1. After `valid_until` a signal is no longer valid: keep the replicas as they are.
2. If `desired_replicas` is null, keep the replicas as they are.
3. Only the newest row of a task counts; a row with the same `revision` changes nothing.
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime

from confluent_kafka import Consumer


def decision(signals: dict[str, object], done: dict[str, tuple[str, int]], now: datetime) -> int | None:
    """The number of replicas to request now; None to change nothing. done: newest moment and revision by task."""
    task, revision = str(signals["id"]), int(str(signals["revision"]))
    computed_at, known_revision = done.get(task, ("", 0))
    if str(signals["computed_at"]) < computed_at:
        return None
    done[task] = (str(signals["computed_at"]), revision)
    desired = signals["desired_replicas"]
    if revision == known_revision or desired is None:
        return None
    if datetime.fromisoformat(str(signals["valid_until"])) <= now:
        return None
    return int(str(desired))


def main(bootstrap_servers: str, topic: str = "tidegate.autoscaling-signals") -> None:
    """Follow until Ctrl-C."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"example-{uuid.uuid4()}",  # everything is read again at each start: the topic is compacted
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    done: dict[str, tuple[str, int]] = {}
    try:
        while True:
            message = consumer.poll(1)
            if message is None or message.error() or message.value() is None:
                continue
            signals = json.loads(message.value() or b"")
            desired = decision(signals, done, datetime.now(UTC))
            if desired is not None:
                print(
                    f"{signals['id']}: {signals['replicas']} -> {desired} ({signals['reason']})", flush=True
                )
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
