"""An independent recomputation of the service metrics, written from the design and not from the job.

    expected = recompute(raw_lines([line(duration=12), line(duration=30)]))
    assert compare(rows_read_from_kafka, expected.rows) == []

It reads lines in exact arithmetic (`values`, `lines`, `identity`), folds tasks (`folding`), aggregates in DuckDB
(`windows`), and knows when a line may be late (`lateness`) and what rows owe each other (`merging`).
"""

from tests.oracle.comparing import compare, differences
from tests.oracle.folding import Fold, by_name_in_every_second, in_order_of_arrival
from tests.oracle.lateness import late_by_a_watermark_after_every_line, unlawful_lateness
from tests.oracle.lines import Dead, Position, RawLine, Reason, Request, Skipped, raw_lines, read
from tests.oracle.merging import (
    groups_that_differ_from_their_children,
    merged,
    minutes_that_differ_from_their_seconds,
)
from tests.oracle.recomputing import Expected, Fate, compare_fates, recompute
from tests.oracle.settings import OracleSettings
from tests.oracle.windows import Row

__all__ = [
    "Dead",
    "Expected",
    "Fate",
    "Fold",
    "OracleSettings",
    "Position",
    "RawLine",
    "Reason",
    "Request",
    "Row",
    "Skipped",
    "by_name_in_every_second",
    "compare",
    "compare_fates",
    "differences",
    "groups_that_differ_from_their_children",
    "in_order_of_arrival",
    "late_by_a_watermark_after_every_line",
    "merged",
    "minutes_that_differ_from_their_seconds",
    "raw_lines",
    "read",
    "recompute",
    "unlawful_lateness",
]
