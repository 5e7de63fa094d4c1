"""Makes access-log lines in bulk, as a busy gateway writes them: `python -m benchmarks.lines OUT`.

What is the same for all requests of one client to one replica is written once, as a template; what differs
(times, sizes, ids) is drawn by numpy in blocks and put in. The same shape and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from tests.support.lines import cluster, record

BLOCK_LINES = 10_000
"""Lines drawn at once; a block depends on the shape and its own number only."""
CLIENTS = 4
"""Client variants (user agent, address, path) per replica."""
MAX_DURATION_MS = 60_000
MAX_BYTES = 60_000
_FORMAT = 2
"""Raise it when the same shape comes to give other bytes: cached files are named by it."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """The traffic. Shares are parts of all requests; what is left over is answered with 200.

    disorder_ms: how far a line's end may lie before that of a line above it.
    line_bytes: about; a line with its names has some 1,150 at least.
    skew: 0 gives every task the same traffic, 1 gives the n-th task a share of 1/n.
    optional_keys: with those for gRPC, first bytes, attempts and tokens; half of the tasks then speak gRPC, and a
    quarter streams tokens. The lines have the same size without them.
    median_ms, sigma: the lognormal latency of an ordinary task; tasks differ by a factor of 0.3 to 5.
    """

    lines_per_second: int = 66_000
    tasks: int = 200
    replicas: int = 5
    departments: int = 20
    disorder_ms: int = 1000
    line_bytes: int = 1500
    client_error_share: float = 0.02
    server_error_share: float = 0.01
    limited_share: float = 0.01
    aborted_share: float = 0.005
    skew: float = 0.7
    median_ms: float = 120
    sigma: float = 0.9
    optional_keys: bool = True
    start: datetime = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("lines_per_second", "tasks", "replicas", "departments", "median_ms"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be above 0")
        shares = [getattr(self, field.name) for field in fields(self) if field.name.endswith("_share")]
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(
                "client_error_share, server_error_share, limited_share, aborted_share: 0 to 1 in all"
            )
        if self.disorder_ms < 0 or self.start.tzinfo is None:
            raise ValueError("disorder_ms must not be negative, start needs a time zone")


# The values of a line that differ from request to request, in the line's order, each with what stands for it
# in a template. That is as long as an ordinary value, so that the line gets its size.
_NUMBER_SLOTS: dict[str, Any] = {"bytes_sent": "@s@", "duration": "@d", "response_duration": "@f"}
_TEXT_SLOTS: dict[str, Any] = {
    "request_id": f"@{'r' * 34}@",
    "start_time": f"@{'t' * 22}@",
    "upstream_service_time": "@u@",
    "traceparent": f"@{'p' * 53}@",
}
_PLACES = [f'"{value}"' for value in _NUMBER_SLOTS.values()] + list(_TEXT_SLOTS.values())
_OPTIONAL_KEYS = (
    *("grpc_status", "response_duration", "upstream_request_attempt_count"),
    *("model", "input_tokens", "output_tokens"),
)

# Outcome to the fields that a gateway writes for it. The first is the ordinary one.
_OUTCOMES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ok", {}),
    ("client_error", {"response_code": 422}),
    (
        "server_error",
        {"response_code": 503, "response_flags": "UC", "response_code_details": "upstream_reset"},
    ),
    (
        "limited",
        {
            "response_code": 429,
            "response_flags": "RL",
            "response_code_details": "local_rate_limited",
            "upstream_host": None,
            "upstream_local_address": None,
            "upstream_service_time": None,
        },
    ),
    (
        "aborted",
        {
            "response_code": 0,
            "response_flags": "DC",
            "response_code_details": "downstream_remote_disconnect",
            "upstream_service_time": None,
        },
    ),
)
_LIMITED = 3
_GRPC_STATUSES = (0, 3, 14, 14, 1)
"""Of a gRPC call with each outcome."""

_USER_AGENTS = (
    "python-httpx/0.27.2 inference-sdk/4.11.0 (lang=python; runtime=3.11.9; os=debian-12; arch=x86_64)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0",
    "okhttp/4.12.0 shop-android/8.3.1 (Android 14; Pixel 8; build 2026.11.2) retry/2",
    'Go-http-client/2.0 "batch scorer" (job=nightly; shard=17/64)',
)


_WORDS = ["".join(letters) for letters in itertools.product("bdklmnrst", "aeiou", "lmnrst")]


class Templates:
    """One line for every outcome, task, replica and client, with `%b` where requests differ."""

    def __init__(self, shape: Shape) -> None:
        self._sizes = (len(_OUTCOMES), shape.tasks, shape.replicas, CLIENTS)
        self._lines = [_template(shape, *each) for each in np.ndindex(self._sizes)]

    def pick(self, *parts: Ints) -> list[bytes]:
        """The templates of many requests, by outcome, task, replica and client."""
        index = np.ravel_multi_index(parts, self._sizes)
        return [self._lines[at] for at in index.tolist()]


def _template(shape: Shape, outcome: int, task: int, replica: int, client: int) -> bytes:
    rng = random.Random(f"{shape.seed} {task} {replica} {client}")
    department = f"department-{task % shape.departments:02d}"
    name = f"model-{task:04d}"
    version = ("v2" if replica == shape.replicas - 1 else "v1") if task % 10 == 0 else ""
    made = record(
        **_NUMBER_SLOTS,
        **_TEXT_SLOTS,
        authority=f"{name}.{department}.models.example.com",
        downstream_remote_address=f"10.80.{client}.{rng.randrange(250)}:{rng.randrange(32768, 61000)}",
        path=f"/v1/models/{name}/infer?locale=en%2DGB&session={rng.randbytes(16).hex()}",
        route_name=f"{department}.{name}",
        upstream_cluster=cluster(task=name, department=department, version=version),
        upstream_host=f"10.{60 + task // 250}.{task % 250}.{10 + replica}:8080",
        upstream_local_address=f"10.40.0.7:{rng.randrange(32768, 61000)}",
        user_agent=_USER_AGENTS[client],
        x_forwarded_for=",".join(f"{rng.randrange(1, 224)}.{rng.randrange(256)}.0.{n}" for n in range(1, 4)),
        taskid=name,
        client=f"client-{client}",
        gateway=f"gateway-6f7c9d5b8-{client:05d}",
    )
    made |= _OUTCOMES[outcome][1]
    if shape.optional_keys:
        made |= _of_a_model(name, task, outcome)
    else:
        made = {key: value for key, value in made.items() if key not in _OPTIONAL_KEYS}
    # The rest of the size is a query of words, which compresses about as well as real ones do.
    missing = shape.line_bytes - len(json.dumps(made, separators=(",", ":")))
    words = "&context=" + "+".join(rng.choices(_WORDS, k=1 + max(missing, 0) // 4))
    made["path"] += words[: max(missing, 0)]
    text = json.dumps(made, separators=(",", ":")).replace("%", "%%")
    for place in _PLACES:
        text = text.replace(place, "%b", 1)
    # Every template takes as many values. Where a time isn't written, its value is cut to nothing.
    if not shape.optional_keys:
        text += "%.0b"
    return text.replace('"upstream_service_time":null', '"upstream_service_time":null%.0b', 1).encode()


def _of_a_model(name: str, task: int, outcome: int) -> dict[str, Any]:
    """What gRPC and token streams add."""
    made: dict[str, Any] = {}
    if task % 2:
        made |= {"response_code": 200, "grpc_status": _GRPC_STATUSES[outcome]}
    if task % 4 == 0:
        made |= {"model": name, "input_tokens": 300 + task, "output_tokens": 40 + task % 90}
    return made


class _Drawing:
    """Draws blocks of a shape's requests."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._start_ms = int(shape.start.timestamp() * 1000)
        self._templates = Templates(shape)
        weights = 1 / np.arange(1, shape.tasks + 1) ** shape.skew
        self._task_shares = weights / weights.sum()
        self._task_median_ms = shape.median_ms * np.random.default_rng(shape.seed).uniform(
            0.3, 5, shape.tasks
        )
        shares = [getattr(shape, f"{name}_share") for name, _ in _OUTCOMES[1:]]
        self._outcome_shares = [1 - sum(shares), *shares]
        self._numbers = np.array([str(n).encode() for n in range(max(MAX_DURATION_MS, MAX_BYTES) + 1)])

    def block(self, number: int) -> list[bytes]:
        """Lines `number * BLOCK_LINES` and on."""
        shape, rng = self._shape, np.random.default_rng([self._shape.seed, number])
        outcomes = rng.choice(len(_OUTCOMES), BLOCK_LINES, p=self._outcome_shares)
        tasks = rng.choice(shape.tasks, BLOCK_LINES, p=self._task_shares)
        templates = self._templates.pick(
            outcomes,
            tasks,
            rng.integers(0, shape.replicas, BLOCK_LINES),
            rng.integers(0, CLIENTS, BLOCK_LINES),
        )
        latency = self._task_median_ms[tasks] * rng.lognormal(0, shape.sigma, BLOCK_LINES)
        durations = np.minimum(latency, MAX_DURATION_MS).astype(np.int64)
        durations[outcomes == _LIMITED] = 0
        sent = np.minimum(rng.lognormal(7.5, 1, BLOCK_LINES), MAX_BYTES).astype(np.int64)
        index = np.arange(number * BLOCK_LINES, (number + 1) * BLOCK_LINES)
        ends = self._start_ms + shape.disorder_ms + index * 1000 // shape.lines_per_second
        ends -= rng.integers(0, shape.disorder_ms + 1, BLOCK_LINES)
        values = (
            self._numbers[sent].tolist(),
            self._numbers[durations].tolist(),
            _ids(rng, b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"),
            _moments(ends - durations),
            self._numbers[np.maximum(durations - 2, 0)].tolist(),
            _ids(rng, b"00-" + b"x" * 32 + b"-" + b"x" * 16 + b"-01"),
            self._numbers[durations // 4].tolist(),
        )
        return [template % line for template, line in zip(templates, zip(*values, strict=True), strict=True)]


def _ids(rng: np.random.Generator, pattern: bytes) -> list[bytes]:
    """Random ids of a block; every `x` of the pattern is a hex digit."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    made = np.tile(np.frombuffer(pattern, np.uint8), (BLOCK_LINES, 1))
    drawn = made[0] == ord("x")
    made[:, drawn] = digits[rng.integers(0, 16, (BLOCK_LINES, int(drawn.sum())), dtype=np.uint8)]
    return _texts(made)


def _moments(epoch_ms: Ints) -> list[bytes]:
    """`2026-11-24T10:00:00.000Z` for each."""
    seconds, ms = np.divmod(epoch_ms, 1000)
    known, where = np.unique(seconds, return_inverse=True)
    texts = [
        f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.000Z".encode() for second in known.tolist()
    ]
    made = np.array(texts, "S24").view(np.uint8).reshape(-1, 24)[where]
    for place, power in ((20, 100), (21, 10), (22, 1)):
        made[:, place] = ord("0") + ms // power % 10
    return _texts(made)


def _texts(characters: npt.NDArray[np.uint8]) -> list[bytes]:
    """Each row as bytes."""
    texts: list[bytes] = characters.view(f"S{characters.shape[1]}").ravel().tolist()
    return texts


def batches(shape: Shape, lines: int) -> Iterator[list[bytes]]:
    """`lines` lines without line ends, in lists of at most BLOCK_LINES: what a producer takes."""
    drawing = _Drawing(shape)
    for number in range(-(-lines // BLOCK_LINES)):
        yield drawing.block(number)[: lines - number * BLOCK_LINES]


def write(path: Path, shape: Shape, lines: int) -> None:
    """A log file, gzip'd where the name ends with `.gz`. It appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with _open(partial, gz=path.suffix == ".gz") as file:
            for batch in batches(shape, lines):
                file.write(b"\n".join(batch) + b"\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path, *, gz: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "wb", compresslevel=1)) if gz else path.open("wb")


def cached(shape: Shape, lines: int, directory: Path | None = None, suffix: str = ".log") -> Path:
    """A file of these lines, made at the first call and found at the next.

    directory: default is a folder of this user in the system's temporary one. suffix: `.log` or `.log.gz`.
    """
    folder = directory or Path(tempfile.gettempdir()) / f"tidegate-lines-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = hashlib.sha256(repr((_FORMAT, lines, asdict(shape))).encode()).hexdigest()[:16]
    path = folder / f"{name}{suffix}"
    if not path.exists():
        write(path, shape, lines)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    usual = Shape()
    parser = argparse.ArgumentParser(description="Write an access log of made-up traffic.")
    parser.add_argument("out", type=Path, help="the file; .gz compresses it")
    parser.add_argument("--lines", type=int, default=1_000_000)
    for field in fields(Shape):
        usual_value = getattr(usual, field.name)
        flag = "--" + field.name.replace("_", "-")
        if isinstance(usual_value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=usual_value)
            continue
        kind = datetime.fromisoformat if field.name == "start" else type(usual_value)
        parser.add_argument(flag, type=kind, default=usual_value, help=f"default {usual_value}")
    chosen = vars(parser.parse_args(arguments))
    out, lines = chosen.pop("out"), chosen.pop("lines")
    began = time.perf_counter()
    try:
        write(out, Shape(**chosen), lines)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    seconds = time.perf_counter() - began
    print(f"{out}: {lines} lines, {out.stat().st_size / 1e6:.1f} MB, {lines / seconds:,.0f} lines/s")


if __name__ == "__main__":
    main()
