"""The indexer's loop between a reader and a delivery: what it holds, and when it commits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping

from confluent_kafka import Message

from tidegate.adapters.indexing.batch import Batch, BatchLimits, Partition
from tidegate.adapters.indexing.delivery import Counters
from tidegate.adapters.indexing.documents import DocumentMaker
from tidegate.adapters.indexing.indexer import Indexer
from tidegate.schemas.elasticsearch import contract_of

TOPIC = "tidegate.service-metrics.1s"
LIMITS = BatchLimits(messages=20, bytes=1_000_000, seconds=0.01)


class Source:
    """A reader of a topic without end; `held` and `committed` are what the loop did with it."""

    def __init__(self, size: int = 1) -> None:
        self.given = 0
        self.holds = 0
        self.held = False
        self.closed = False
        self.committed: list[dict[Partition, int]] = []
        self.on_hold: Callable[[], None] = lambda: None
        self.give_back: Callable[[Collection[Partition]], None] = lambda _: None
        self._size = size

    def subscribe(self, give_back: Callable[[Collection[Partition]], None]) -> None:
        self.give_back = give_back

    def read(self, count: int, timeout_seconds: float) -> list[Message]:
        if self.held:
            return []
        found = []
        for offset in range(self.given, self.given + count):
            row = {"id": f"{offset}", "window_start": "2026-11-24T10:00:00.000Z", "pad": "x" * self._size}
            value = json.dumps(row).encode()
            found.append(Message(topic=TOPIC, partition=0, offset=offset, value=value, timestamp=(1, 0)))
        self.given += count
        return found

    def hold(self) -> None:
        self.held = True
        self.holds += 1
        self.on_hold()

    def resume(self) -> None:
        self.held = False

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        self.committed.append(dict(next_offsets))

    def at_the_end(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class Sink:
    """A delivery that settles a batch only when the test says so."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.settles = False
        self._under_way: Batch | None = None

    @property
    def busy(self) -> bool:
        return self._under_way is not None

    def begin(self, batch: Batch) -> None:
        assert self._under_way is None
        self._under_way = batch
        self.batches.append(batch)

    def settled(self, timeout_seconds: float | None) -> Batch | None:
        if not self.settles:
            return None
        batch, self._under_way = self._under_way, None
        return batch

    def give_up(self, partitions: Collection[Partition]) -> None:
        if self._under_way is not None:
            self._under_way.drop(partitions)

    def halt(self) -> None:
        pass

    def close(self) -> None:
        pass


def loop(source: Source, sink: Sink, limits: BatchLimits = LIMITS) -> Indexer:
    makers = {TOPIC: DocumentMaker(contract_of(TOPIC), "")}
    return Indexer(source, makers, sink, limits, Counters())  # type: ignore[arg-type]


def test_while_a_batch_hangs_one_more_is_filled_and_then_nothing_is_read() -> None:
    source, sink, stop = Source(), Sink(), threading.Event()
    source.on_hold = lambda: stop.set() if source.holds >= 3 else None
    loop(source, sink).run(stop)
    assert source.given == 2 * LIMITS.messages
    assert source.committed == []
    assert source.closed


def test_large_messages_fill_a_batch_by_their_bytes() -> None:
    source, sink, stop = Source(size=10_000), Sink(), threading.Event()
    source.on_hold = stop.set
    loop(source, sink, BatchLimits(messages=100_000, bytes=200_000, seconds=0.01)).run(stop)
    first = sink.batches[0]
    assert first.bytes < 2 * 200_000


def test_offsets_are_committed_in_the_order_of_the_batches_once_these_are_settled() -> None:
    source, sink, stop = Source(), Sink(), threading.Event()

    def go_on() -> None:
        assert source.committed == []
        sink.settles = True
        stop.set()

    source.on_hold = go_on
    loop(source, sink).run(stop)
    assert source.committed == [{(TOPIC, 0): 20}, {(TOPIC, 0): 40}]


def test_what_was_given_back_is_not_committed() -> None:
    source, sink, stop = Source(), Sink(), threading.Event()

    def give_back() -> None:
        source.give_back({(TOPIC, 0)})
        sink.settles = True
        stop.set()

    source.on_hold = give_back
    loop(source, sink).run(stop)
    assert all(offsets == {} for offsets in source.committed)
