"""Delivers batches to Elasticsearch, one after the other in its own thread, each until it is settled."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime

from elasticsearch import Elasticsearch as Client

from tidegate.adapters.backoff import Backoff
from tidegate.adapters.indexing.batch import Batch, Partition
from tidegate.adapters.indexing.bulk import attempt_bulk
from tidegate.adapters.indexing.documents import Refusal
from tidegate.adapters.kafka.dead_letters import DeadLetterWriter
from tidegate.schemas.dead_letters import dead_letter
from tidegate.schemas.rows.accounting import DeadLetter

logger = logging.getLogger(__name__)

WRITER = "indexer"


@dataclass
class Counters:
    """Counts of the messages' outcomes, since the start.

    read = indexed + replaced + refused + tombstones + what is under way, left or given back.
    """

    read: int = 0
    indexed: Counter[str] = field(default_factory=Counter)
    """Documents in Elasticsearch, by topic."""
    replaced: int = 0
    """Rows that a newer one of the same id replaced before they were sent."""
    refused: int = 0
    """Dead letters, and refused letters of the dead letters' own topic, which get none."""
    tombstones: int = 0
    given_back: int = 0
    """Messages of partitions that went to another instance before they were settled."""
    retried: int = 0
    """Documents sent again, each time counted."""

    def __str__(self) -> str:
        return (
            f"read {self.read}, indexed {self.indexed.total()}, replaced {self.replaced}, "
            f"refused {self.refused}, tombstones {self.tombstones}, given back {self.given_back}, "
            f"retried {self.retried}"
        )


class Delivery:
    """Delivers at most one batch at a time, with retries while Elasticsearch rejects it or is unavailable."""

    def __init__(
        self, client: Client, letters: DeadLetterWriter | None, backoff: Backoff, counters: Counters
    ) -> None:
        """letters: None if rejected documents have their dead letters already."""
        self._client = client
        self._letters = letters
        self._backoff = backoff
        self._counters = counters
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._attempting = threading.Lock()
        self._halted = threading.Event()
        self._under_way: tuple[Batch, Future[bool]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a batch is under way, or settled and not yet taken back with `settled`."""
        return self._under_way is not None

    def begin(self, batch: Batch) -> None:
        """Send a batch. No other one may be in flight."""
        if self._under_way is not None:
            raise RuntimeError("a batch is under way already")
        self._under_way = (batch, self._thread.submit(self._settle, batch))

    def settled(self, timeout_seconds: float | None) -> Batch | None:
        """The settled batch, each of whose documents has its final answer; None without one.

        timeout_seconds: how long to wait for it; None means until it is settled, or cut short by `halt`.
        A batch that was cut short stays under way: none of it may be committed.
        """
        if self._under_way is None:
            return None
        batch, future = self._under_way
        wait([future], timeout_seconds)
        if not future.done() or not future.result():
            return None
        self._under_way = None
        return batch

    def give_up(self, partitions: Collection[Partition]) -> None:
        """Drop these partitions' messages, after the request in flight was answered.

        The wait matters: a request of ours that arrived later would bring older rows back over the newer ones
        of the instance that gets the partitions.
        """
        if self._under_way is None:
            return
        batch, future = self._under_way
        with self._attempting:
            if not future.done():
                self._counters.given_back += batch.drop(partitions)

    def halt(self) -> None:
        """Stop after the attempt in flight."""
        self._halted.set()

    def close(self) -> None:
        """Wait for the attempt in flight, then end the thread."""
        self.halt()
        self._thread.shutdown(wait=True)

    def _settle(self, batch: Batch) -> bool:
        failures = 0
        while True:
            with self._attempting:
                reason, progress = self._index(batch)
            if not reason:
                break
            failures = 1 if progress else failures + 1
            if not self._wait(failures, f"{len(batch.documents())} documents wait: {reason}"):
                return False
        failures = 0
        letters = self._letters_of(batch.refusals)
        while letters and self._letters is not None:
            letters, reason = self._letters.write(letters)
            failures += 1
            if letters and not self._wait(failures, f"{len(letters)} dead letters wait: {reason}"):
                return False
        self._counters.refused += len(batch.refusals)
        return True

    def _index(self, batch: Batch) -> tuple[str, bool]:
        """Make one attempt. Returns why documents must be retried (empty: none), and whether others passed."""
        documents = batch.documents()
        if not documents:
            return "", False
        attempt = attempt_bulk(self._client, documents)
        again = set(map(id, attempt.retry))
        refused = {id(document) for document, _ in attempt.refused}
        self._counters.indexed.update(
            document.position.topic
            for document in documents
            if id(document) not in again and id(document) not in refused
        )
        self._counters.retried += len(attempt.retry)
        batch.refusals += [
            Refusal(document.position, document.value, reason) for document, reason in attempt.refused
        ]
        batch.leave(attempt.retry)
        return (attempt.retry_reason if attempt.retry else ""), len(attempt.retry) < len(documents)

    def _letters_of(self, refusals: Collection[Refusal]) -> list[DeadLetter]:
        letters = []
        for refusal in refusals:
            topic, partition, offset = refusal.position
            if self._letters is None:
                logger.warning("%s is left out: %s", refusal.position, refusal.reason)
                continue
            if topic == self._letters.topic:
                logger.error(
                    "dead letter %s can't be indexed, and gets none: %s", refusal.position, refusal.reason
                )
                continue
            logger.warning("%s goes to the dead letters: %s", refusal.position, refusal.reason)
            letters.append(
                dead_letter(
                    topic, partition, offset, refusal.reason, refusal.value, WRITER, datetime.now(UTC)
                )
            )
        return letters

    def _wait(self, failures: int, what: str) -> bool:
        """Wait before the next attempt. Returns False if halted meanwhile."""
        seconds = self._backoff.delay(failures, random.random())  # noqa: S311 (jitter, no secret)
        logger.warning("%s; next try in %.1f s", what, seconds)
        return not self._halted.wait(seconds)
