"""How fast the job resource-metrics is, against only reading: `python -m benchmarks.resource_samples`.

Starts a Kafka for itself and writes what a Prometheus sends that scrapes 10,000 pods (2,000 tasks of five) each 15 s:
nine series a pod, those of a pod together. Flink's local cluster reads them to the end, parallelism 1: the floor reads
and writes to nowhere; the job is the whole job. Each runs over a third of the scrapes, then over all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import orjson

from benchmarks.index import START_MS
from benchmarks.service_metrics import Run, fill, further, in_turns, kafka_for, measured
from tidegate.jobs import environment, resource_metrics
from tidegate.jobs.kafka_tables import messages_table
from tidegate.schemas import topics
from tidegate.schemas.settings import Settings
from tidegate.schemas.timestamps import from_epoch_ms, to_text

PODS = 5
SCRAPE_SECONDS = 15
_BOUNDED = environment.Where(bounded=True)
_TOPICS = (*topics.ALL_TOPICS, topics.PROMETHEUS_METRICS)
_SERIES = (
    ("container_cpu_usage_seconds_total", {"container": "model"}, 12.5),
    ("container_cpu_cfs_throttled_seconds_total", {"container": "model"}, 0.5),
    ("container_memory_working_set_bytes", {"container": "model"}, 0.0),
    ("container_spec_memory_limit_bytes", {"container": "model"}, 0.0),
    ("container_spec_cpu_quota", {"container": "model"}, 0.0),
    ("container_spec_cpu_period", {"container": "model"}, 0.0),
    ("container_network_receive_bytes_total", {"interface": "eth0"}, 40_000.0),
    ("container_network_transmit_bytes_total", {"interface": "eth0"}, 90_000.0),
    ("kube_pod_container_status_restarts_total", {"container": "model"}, 0.0),
)
"""Names, what is special of their labels, and by how much they grow in a scrape."""


def samples(tasks: int, scrapes: range) -> Iterator[tuple[None, bytes]]:
    """The samples of these scrapes, pod by pod."""
    templates = [
        orjson.dumps(
            {
                "timestamp": "@at@",
                "value": f"@{index}@",
                "name": name,
                "labels": {
                    "__name__": name,
                    "namespace": f"d{task % 20}",
                    "pod": f"service-t{task}-7d9f8c6b5-x2b{pod}z",
                    "instance": f"10.1.{task % 250}.{pod}:10250",
                    "job": "kubelet",
                    "node": f"node-{task % 100}",
                    **labels,
                },
            }
        )
        for task in range(tasks)
        for pod in range(PODS)
        for index, (name, labels, _) in enumerate(_SERIES)
    ]
    for scrape in scrapes:
        at = to_text(from_epoch_ms(START_MS + 1000 * SCRAPE_SECONDS * scrape)).encode()
        values = [
            (f"@{index}@".encode(), f"{1000 + growth * scrape:g}".encode())
            for index, (_, _, growth) in enumerate(_SERIES)
        ]
        for number, template in enumerate(templates):
            yield None, template.replace(b"@at@", at).replace(*values[number % len(values)])


def read_only(settings: Settings, count: int) -> Run:
    """Read, forget."""
    tables = environment.create(settings, _BOUNDED, "read-only")
    source = messages_table("samples", settings.kafka, topics.PROMETHEUS_METRICS, "floor", bounded=True)
    tables.execute_sql(source)
    tables.execute_sql("CREATE TEMPORARY TABLE nothing (message BYTES) WITH ('connector' = 'blackhole')")
    return measured(count, lambda: tables.execute_sql("INSERT INTO nothing SELECT message FROM samples"))


def job(settings: Settings, count: int) -> Run:
    """The whole job."""
    tables = environment.create(settings, _BOUNDED, resource_metrics.NAME, resource_metrics.OPTIONS)
    return measured(count, resource_metrics.main(tables, settings, bounded=True).execute)


def main() -> None:
    """Print each run, and the job's speed as a part of the floor's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--scrapes", type=int, default=6)
    chosen = parser.parse_args()
    first = chosen.scrapes // 3
    parts = (samples(chosen.tasks, scrapes) for scrapes in (range(first), range(first, chosen.scrapes)))
    with kafka_for(*_TOPICS) as settings:
        fill(settings.kafka, topics.PROMETHEUS_METRICS, samples(10, range(-1, 0)))
        read_only(settings, 0)  # a cold JVM and a cold disk are nobody's
        runs = in_turns(settings, topics.PROMETHEUS_METRICS, parts, {"floor": read_only, "job": job})
    more = further(runs)
    print("a line is a sample")
    for name, run in more.items():
        print(f"{run}  {name:5}  further samples, {run.speed / more['floor'].speed:.2f} of the floor")
    need = chosen.tasks * PODS * len(_SERIES) / SCRAPE_SECONDS
    print(f"{chosen.tasks * PODS:,} pods are {need:,.0f} samples/s: ", end="")
    print(f"the job takes {more['job'].speed / need:.1f} times as many")


if __name__ == "__main__":
    main()
