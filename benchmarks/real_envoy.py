"""Requests through a real Envoy that end in every way, as the job and as the oracle count them.

`python -m benchmarks.real_envoy --lines 1000000` sends gRPC calls, streams, resets, timeouts, retries, websockets, TCP
connections and limited requests through the installed Envoy, runs the job over its access log, compares every row with
the oracle's, and prints which outcome each ending had. Starts a Kafka for itself, and removes it afterwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.service_metrics import kafka_for
from tests.oracle import raw_lines
from tests.support.envoy_gateway import ENDINGS
from tests.support.envoy_traffic import lines_of_real_requests, requests_of
from tests.support.flink_jobs import problems, put, run_bounded
from tidegate.jobs.logic.outcome import outcome_of
from tidegate.schemas import topics

_SHOWN = 20


def ending_of(line: dict[str, object]) -> str:
    """The ending of a request by its log line; of a TCP connection by its cluster."""
    return str(line["taskid"] or str(line["upstream_cluster"]).split("service-")[1].split(".")[0])


def table(lines: Iterable[bytes]) -> list[str]:
    """A row of Markdown for each ending and outcome: how many, and what Envoy logs most often."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    logged: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for line in lines:
        fields = json.loads(line)
        outcome = outcome_of(fields) or "tcp"
        status = fields["grpc_status"]
        parts = [
            str(fields["response_code"]),
            fields["response_flags"],
            "" if status is None else f"gRPC {status}",
        ]
        counts[ending_of(fields)][outcome] += 1
        logged[ending_of(fields), outcome][
            " ".join(part for part in parts if part not in ("", "-", None))
        ] += 1
    return [
        "| how it is provoked | code, flags, gRPC status | outcome | requests |",
        "|---|---|---|---|",
        *(
            f"| {ending.how} | {logged[ending.name, outcome].most_common(1)[0][0]} | `{outcome}` | {count:,} |"
            for ending in ENDINGS
            for outcome, count in counts[ending.name].most_common()
        ),
    ]


def main() -> None:
    """Print the times of each step, the rows that differ (there should be none), and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=100_000)
    wanted = requests_of(parser.parse_args().lines)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        lines = lines_of_real_requests(Path(folder), wanted)
    print(f"{len(lines):,} lines of Envoy after {time.perf_counter() - began:.0f} s", flush=True)
    with kafka_for(*topics.ALL_TOPICS) as settings:
        placed = put(settings.kafka, raw_lines(lines))
        began = time.perf_counter()
        written = run_bounded(settings)
        print(f"{len(written.rows):,} rows; the job took {time.perf_counter() - began:.0f} s", flush=True)
        differences = problems(written, placed, settings)
    print(f"{len(differences)} differences from the oracle; lines by fate: {dict(written.counts)}")
    for difference in differences[:_SHOWN]:
        print(difference)
    print("\n".join(table(lines)))
    raise SystemExit(1 if differences else 0)


if __name__ == "__main__":
    main()
