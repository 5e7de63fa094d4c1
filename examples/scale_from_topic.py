"""Follows tidegate.autoscaling-signals and says what a scaler of your own would do: the rules that it must keep.

    python examples/scale_from_topic.py kafka-1:9092 [TOPIC]

1. After `valid_until` a signal says nothing: keep what there is.
2. `desired_replicas` null says nothing either.
3. Of a task only the newest moment counts; the same `revision` again is no news.
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime

from confluent_kafka import Consumer


def decision(signals: dict[str, object], done: dict[str, tuple[str, int]], now: datetime) -> int | None:
    """How many replicas to ask for now; None: leave it as it is. done: newest moment and revision by task."""
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
