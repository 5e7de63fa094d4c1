"""How fast the indexer is, against the client's bulk helper fed from memory: `python benchmarks/index.py`.

Starts Kafka and Elasticsearch for itself, and removes them afterwards. Both ways index the same documents
into indices of the same template on the same server, in turns: what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from elasticsearch import Elasticsearch as Client
from elasticsearch.helpers import streaming_bulk

from tidegate.adapters.indexing.client import connect
from tidegate.adapters.indexing.documents import Document, DocumentMaker, Position, Received
from tidegate.adapters.indexing.indexer import run_indexer
from tidegate.adapters.indexing.templates import detect_features
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.elasticsearch import IndexContract, contract_of, index_template
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.settings import Elasticsearch, Indexer, Settings, Stack
from tidegate.schemas.timestamps import from_epoch_ms, to_text
from tidegate.stack import local_stack

START_MS = 1_795_514_400_000
TASKS, REPLICAS = 200, 5


def metrics_rows(count: int) -> Iterator[bytes]:
    """Replica rows of 200 tasks with 5 replicas each, a histogram of 30 buckets in each row (about 1 KB)."""
    for number in range(count):
        second, group = divmod(number, TASKS * REPLICAS)
        start_ms = START_MS + second * 1000
        task, replica = f"task-{group % TASKS}", f"10.0.{group // TASKS}.7:8080"
        yield orjson.dumps(
            {
                "id": ServiceMetricsRow.id_of("1s", "replica", "search", task, None, replica, start_ms),
                "span": "1s",
                "level": "replica",
                "window_start": to_text(from_epoch_ms(start_ms)),
                "window_end": to_text(from_epoch_ms(start_ms + 1000)),
                "department": "search",
                "task": task,
                "version": None,
                "replica": replica,
                "requests": 60,
                "qps": 60.0,
                "latency_count": 60,
                "latency_avg_ms": 55.5,
                "latency_min_ms": 1.0,
                "latency_max_ms": 900.0 + number % 97,
                "latency_p50_ms": 40.1,
                "latency_p90_ms": 90.4,
                "latency_p95_ms": 100.2,
                "latency_p99_ms": 800.1,
                "upstream_service_time_avg_ms": 50.5,
                "upstream_service_time_max_ms": 890.0,
                "errors_4xx": 1,
                "errors_5xx": 0,
                "aborted": 0,
                "rate_limited": 0,
                "error_rate": 0.0,
                "rate_limited_ratio": 0.0,
                "response_flags": {"UH": 1},
                "bytes_received": 60_000 + number,
                "bytes_sent": 120_000 + number,
                "apdex": 0.95,
                "replicas_seen": 1,
                "qps_per_replica": 60.0,
                "histogram": {
                    "scale": 5,
                    "zero": 0,
                    "buckets": {str(100 + i): 2 for i in range(30)},
                },
                "upgraded": 0,
                "first_byte_count": 60,
                **{
                    f"first_byte_{name}_ms": 12.5
                    for name in ("avg", "min", "max", "p50", "p90", "p95", "p99")
                },
                "first_byte_histogram": {
                    "scale": 5,
                    "zero": 0,
                    "buckets": {str(60 + i): 6 for i in range(10)},
                },
                "stream_ms_per_token": 20.5,
                "output_tokens_per_second": 48.8,
                "input_tokens": 18_000 + number,
                "output_tokens": 3_000 + number,
                "concurrency": 3.33,
                "retries": 0,
                "grpc_status": {"0": 60},
                "exemplar": {"request_id": str(uuid.UUID(int=number)), "trace_id": None, "latency_ms": 900.0},
            }
        )


def access_log_lines(count: int) -> Iterator[bytes]:
    """Lines of the gateway's log of about 1 KB."""
    for number in range(count):
        task = f"task-{number % TASKS}"
        yield orjson.dumps(
            {
                "authority": f"{task}.models.example.com",
                "bytes_received": 812,
                "bytes_sent": 2048 + number % 997,
                "connection_termination_details": None,
                "downstream_local_address": "10.1.0.4:8443",
                "downstream_remote_address": f"10.9.{number % 250}.17:40112",
                "duration": number % 700,
                "method": "POST",
                "path": f"/v1/models/{task}/infer",
                "protocol": "HTTP/2",
                "request_id": str(uuid.UUID(int=number)),
                "requested_server_name": None,
                "response_code": 200,
                "response_code_details": "via_upstream",
                "response_flags": "-",
                "route_name": task,
                "start_time": to_text(from_epoch_ms(START_MS + number // 5)),
                "upstream_cluster": f"outbound|8080||service-{task}.search.svc.cluster.local",
                "upstream_host": f"10.0.{number % REPLICAS}.7:8080",
                "upstream_local_address": "10.1.0.4:51234",
                "upstream_service_time": str(number % 690),
                "upstream_transport_failure_reason": None,
                "user_agent": "python-requests/2.32.3",
                "x_forwarded_for": f"192.0.2.{number % 250}",
                "taskid": task,
                "traceparent": f"00-{number:032x}-{number:016x}-01",
                "client": f"team-{number % 40}",
                "gateway": "istio-ingressgateway-7d9f8c6b5-x2x4z",
            }
        )


def floor(client: Client, contract: IndexContract, settings: Settings, documents: list[bytes]) -> float:
    """Documents a second of the client's helper, from memory, in requests as large as the indexer's."""
    elasticsearch = settings.elasticsearch.model_copy(
        update={"index_prefix": f"floor{uuid.uuid4().hex[:8]}-"}
    )
    client.indices.put_index_template(
        name=contract.alias(elasticsearch.index_prefix),
        body=index_template(contract, elasticsearch, detect_features(client)),
    )
    maker = DocumentMaker(contract, elasticsearch.index_prefix)
    actions = []
    for offset, value in enumerate(documents):
        made = maker.make(Received(Position(contract.topic.name, 0, offset), START_MS, value))
        assert isinstance(made, Document)
        actions.append({"_index": made.index_name, "_id": made.id, "_source": orjson.loads(made.body)})
    started = time.perf_counter()
    for passed, answer in streaming_bulk(
        client,
        actions,
        chunk_size=settings.indexer.bulk_documents,
        max_chunk_bytes=settings.indexer.bulk_bytes,
    ):
        assert passed, answer
    seconds = time.perf_counter() - started
    _remove(client, contract, elasticsearch)
    return len(documents) / seconds


def indexer(client: Client, contract: IndexContract, settings: Settings, documents: list[bytes]) -> float:
    """Documents a second of the whole indexer: out of Kafka, parsed, checked, sent, committed."""
    mark = uuid.uuid4().hex[:8]
    mine = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"topic_prefix": f"bench{mark}."}),
            "elasticsearch": settings.elasticsearch.model_copy(update={"index_prefix": f"bench{mark}-"}),
            "indexer": settings.indexer.model_copy(update={"consumer_group": f"bench-{mark}"}),
        }
    )
    ensure_topics(mine.kafka, [contract.topic])
    producer = Producer(mine.kafka.client_config() | {"linger.ms": 20})
    for document in documents:
        while True:
            try:
                producer.produce(mine.kafka.topic(contract.topic), document)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    started = time.perf_counter()
    counters = run_indexer(mine, [contract], bounded=True, stop=threading.Event())
    seconds = time.perf_counter() - started
    assert counters.indexed.total() == len(documents), counters
    _remove(client, contract, mine.elasticsearch)
    return len(documents) / seconds


def compare(settings: Settings, count: int, rounds: int) -> dict[str, Any]:
    """Both ways in turns; the median of the rounds."""
    client = connect(settings.elasticsearch, 60)
    result: dict[str, Any] = {}
    kinds: dict[str, Callable[[int], Iterator[bytes]]] = {
        "tidegate.service-metrics.1s": metrics_rows,
        "gateway.access-logs": access_log_lines,
    }
    for name, make in kinds.items():
        contract, documents = contract_of(name), list(make(count))
        floor(
            client, contract, settings, documents[: count // 4]
        )  # a cold server would count against the first
        floors, speeds = [], []
        for _ in range(rounds):
            floors.append(floor(client, contract, settings, documents))
            speeds.append(indexer(client, contract, settings, documents))
        base, speed = statistics.median(floors), statistics.median(speeds)
        result[name] = {
            "documents": count,
            "bytes_a_document": round(sum(map(len, documents)) / count),
            "floor_docs_per_second": round(base),
            "indexer_docs_per_second": round(speed),
            "ratio": round(speed / base, 2),
        }
    return result


def _remove(client: Client, contract: IndexContract, elasticsearch: Elasticsearch) -> None:
    client.indices.delete(index=contract.index(elasticsearch.index_prefix, from_epoch_ms(START_MS).date()))
    client.indices.delete_index_template(name=contract.alias(elasticsearch.index_prefix))


def main() -> None:
    """Print the figures as a table; with --json as one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o755)  # Elasticsearch may have to run as another user
        stack = local_stack(Settings(stack=Stack(state_dir=Path(folder)), indexer=Indexer()))
        try:
            stack.up(["kafka", "elasticsearch"])
            figures = compare(stack.settings, arguments.documents, arguments.rounds)
        finally:
            stack.down(purge=True)
    if arguments.json:
        print(orjson.dumps(figures).decode())
        return
    for name, row in figures.items():
        print(
            f"{name} ({row['documents']} documents of {row['bytes_a_document']} B): "
            f"indexer {row['indexer_docs_per_second']:,} docs/s, "
            f"floor {row['floor_docs_per_second']:,} docs/s, ratio {row['ratio']}"
        )


if __name__ == "__main__":
    main()
