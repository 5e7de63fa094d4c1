"""What the benchmarks of Elasticsearch's indices share: topics as tidegate fills them, and what an index takes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from elasticsearch import Elasticsearch as Client

from benchmarks.lines import Shape, batches
from benchmarks.live import servers
from benchmarks.service_metrics import fill
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.shipping.services import LogOwner, message_of
from tidegate.jobs import environment, service_metrics
from tidegate.jobs.logic.identity import of_cluster
from tidegate.schemas import topics
from tidegate.schemas.settings import Settings

FILLED = (
    topics.ACCESS_LOGS,
    topics.INFERENCE_LOGS,
    topics.SERVICE_METRICS_1S,
    topics.SERVICE_METRICS_1M,
)
"""The topics that `filled_topics` fills."""

_TRACE_EVERY = 100
_QUIET_SECONDS = 1.0
REMEMBERED_SECONDS = 10
"""Unless `index.store.stats_refresh_interval` says else."""
_TRACE = "".join(
    f'\n  File "/srv/model/{name}.py", line {line}, in {name}\n    return self.{name}(batch, context)'
    for name, line in (("serve", 88), ("forward", 210), ("attend", 431), ("gather", 77))
)


@dataclass(frozen=True)
class Load:
    """So many requests a second of 200 tasks with five replicas, for so many seconds."""

    requests_per_second: int = 2000
    seconds: int = 180

    @property
    def requests(self) -> int:
        """All of them."""
        return self.requests_per_second * self.seconds

    @property
    def shape(self) -> Shape:
        """The lines' own."""
        return Shape(lines_per_second=self.requests_per_second)


@contextmanager
def filled_topics(load: Load) -> Iterator[Settings]:
    """Kafka with the load's lines, services' records, and the rows that the job makes of the lines; Elasticsearch.

    Raises SystemExit where not all of it can be written.
    """
    with servers("kafka", "elasticsearch") as stack:
        settings = stack.settings
        ensure_topics(settings.kafka, topics.ALL_TOPICS)
        began = time.perf_counter()
        lines = [line for batch in batches(load.shape, load.requests) for line in batch]
        fill(settings.kafka, topics.ACCESS_LOGS, ((None, line) for line in lines))
        fill(settings.kafka, topics.INFERENCE_LOGS, (_record(line, settings) for line in lines))
        tables = environment.create(settings, environment.Where(bounded=True), service_metrics.NAME)
        service_metrics.main(tables, settings, bounded=True).execute().wait()
        print(
            f"{len(lines):,} requests, and the rows of them: {time.perf_counter() - began:.0f} s", flush=True
        )
        yield settings


def _record(line: bytes, settings: Settings) -> tuple[str, bytes]:
    """What a service logs of one request, as `tidegate ship --services` reads it; one in a hundred fails."""
    request = orjson.loads(line)
    cluster = of_cluster(request["upstream_cluster"], settings.access_log)
    rng = random.Random(request["request_id"])
    failed = rng.randrange(_TRACE_EVERY) == 0
    text = (
        f"{request['start_time']} {'ERROR' if failed else 'INFO'} [{request['request_id']}] "
        f"trace_id={request['traceparent'].split('-')[1]} model.server: batch of {rng.randrange(1, 33)} with "
        f"{rng.randrange(20, 4000)} tokens took {request['duration']} ms on gpu {rng.randrange(8)}"
    )
    if failed:
        text += f"\nTraceback (most recent call last):{_TRACE}\nRuntimeError: CUDA out of memory"
    replica = request["upstream_host"] or "none"
    owner = LogOwner(*cluster.identity, replica)
    record = message_of(text.encode(), owner, "stderr", datetime.now(UTC))
    return owner.task, record.model_dump_json().encode()


def settle(client: Client, index: str) -> None:
    """Wait until all is on disk and no merge is under way. index: may be several names, or wildcards."""
    client.indices.flush(index=index, wait_if_ongoing=True)
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_SECONDS:
        if client.indices.stats(index=index, metric="merge")["_all"]["total"]["merges"]["current"]:
            quiet_since = time.monotonic()
        time.sleep(0.1)


def merge(client: Client, index: str) -> None:
    """Make its segments one, and settle."""
    client.options(request_timeout=600).indices.forcemerge(index=index, max_num_segments=1)
    settle(client, index)


def stored_bytes(client: Client, index: str) -> int:
    """What an index takes on disk, as Elasticsearch knows it: it remembers sizes for REMEMBERED_SECONDS."""
    stats = client.indices.stats(index=index, metric="store")["_all"]["total"]
    return int(stats["store"]["size_in_bytes"])
