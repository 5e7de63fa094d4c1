"""What one document's answer means: indexed, refused for good, or to be tried again."""

from __future__ import annotations

import pytest

from tidegate.adapters.backoff import Backoff
from tidegate.adapters.indexing.bulk import describe, judge


@pytest.mark.parametrize("status", [200, 201])
def test_a_document_that_was_written_is_indexed(status: int) -> None:
    assert judge(status, None) == "indexed"


@pytest.mark.parametrize(
    "kind",
    ["document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"],
)
def test_a_document_at_fault_is_refused(kind: str) -> None:
    assert judge(400, {"type": kind, "reason": "…"}) == "refused"


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_broken_or_closed_to_us_is_asked_again(status: int) -> None:
    assert judge(status, {"type": "any_exception"}) == "retry"


@pytest.mark.parametrize(
    "kind", ["validation_exception", "index_closed_exception", "cluster_block_exception"]
)
def test_a_cluster_that_takes_no_more_shards_or_writes_is_no_fault_of_the_document(kind: str) -> None:
    assert judge(400, {"type": kind}) == "retry"


def test_an_error_is_reported_with_its_innermost_cause_in_one_line() -> None:
    error = {
        "type": "document_parsing_exception",
        "reason": "failed to parse field\n[x]",
        "caused_by": {"type": "outer", "reason": "o", "caused_by": {"type": "inner", "reason": "not a date"}},
    }
    assert describe(error) == "document_parsing_exception: failed to parse field [x] (inner: not a date)"


def test_waits_double_up_to_the_longest_and_at_least_half_of_each_is_kept() -> None:
    backoff = Backoff(0.5, 30)
    assert [backoff.delay(failures, 1) for failures in (1, 2, 3, 7, 1000)] == [0.5, 1, 2, 30, 30]
    assert [backoff.delay(failures, 0) for failures in (1, 2, 1000)] == [0.25, 0.5, 15]
