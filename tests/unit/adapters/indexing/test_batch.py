"""What a batch holds, when it is sent, and what may be committed after it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.indexing.batch import Batch, BatchLimits
from tidegate.adapters.indexing.documents import Document, Position, Refusal

LIMITS = BatchLimits(messages=3, bytes=100, seconds=0.5)


def document(offset: int, row_id: str, partition: int = 0, size: int = 1) -> Document:
    return Document(Position("t", partition, offset), "index", row_id, b"{}", b"v" * size)


def filled(*documents: Document) -> Batch:
    batch = Batch()
    for one in documents:
        batch.add(one.position, one, 0)
    return batch


def test_of_a_row_that_was_rewritten_only_the_last_form_is_sent() -> None:
    batch = Batch()
    assert not batch.add(Position("t", 0, 1), document(1, "a"), 0)
    assert not batch.add(Position("t", 0, 2), document(2, "b"), 0)
    assert batch.add(Position("t", 0, 3), document(3, "a"), 0)
    assert [one.position.offset for one in batch.documents()] == [2, 3]
    assert batch.next_offsets == {("t", 0): 4}


def test_a_tombstone_moves_the_offset_and_nothing_else() -> None:
    batch = Batch()
    batch.add(Position("t", 0, 5), None, 0)
    assert batch.documents() == []
    assert batch.next_offsets == {("t", 0): 6}


def test_an_empty_batch_is_never_due() -> None:
    assert not Batch().due(LIMITS, now=1e9)


def test_a_batch_is_due_when_it_is_full_or_its_first_message_is_old_enough() -> None:
    batch = filled(document(0, "a"), document(1, "b"))
    assert not batch.due(LIMITS, now=0.4)
    assert batch.due(LIMITS, now=0.5)
    assert filled(document(0, "a"), document(1, "b"), document(2, "c")).due(LIMITS, now=0)
    assert filled(document(0, "a", size=100)).due(LIMITS, now=0)


def test_the_bare_end_of_a_partition_is_committed_at_once() -> None:
    batch = Batch()
    batch.reach(("t", 0), 12)
    assert batch.due(LIMITS, now=0)
    assert batch.next_offsets == {("t", 0): 12}


def test_what_went_to_another_instance_is_neither_sent_nor_committed() -> None:
    batch = filled(document(0, "a"), document(0, "b", partition=1))
    batch.add(Position("t", 1, 1), Refusal(Position("t", 1, 1), b"x", "bad"), 0)
    assert batch.drop({("t", 1)}) == 2
    assert [one.id for one in batch.documents()] == ["a"]
    assert batch.refusals == []
    assert batch.next_offsets == {("t", 0): 1}


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcd"))))
def test_every_message_is_covered_by_the_offsets(messages: list[tuple[int, str]]) -> None:
    batch, counts = Batch(), {0: 0, 1: 0, 2: 0}
    for partition, row_id in messages:
        batch.add(
            Position("t", partition, counts[partition]), document(counts[partition], row_id, partition), 0
        )
        counts[partition] += 1
    assert batch.next_offsets == {("t", number): count for number, count in counts.items() if count}
    assert {one.id for one in batch.documents()} == {row_id for _, row_id in messages}
