"""How `tidegate windows` reads its options and shows a row."""

from __future__ import annotations

from tests.contract.test_row_contracts import service_row
from tidegate.cli.queries.windows import COLUMNS, as_line, cells
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow


def test_a_row_has_one_cell_a_column_and_dashes_for_what_is_unknown() -> None:
    row = ServiceMetricsRow.model_validate(service_row(latency_p50_ms=None, apdex=None))
    shown = dict(zip(COLUMNS, cells(row), strict=True))
    assert shown["window"] == "2026-11-24T10:00:00.000Z"
    assert shown["p50 ms"] == shown["apdex"] == shown["replica"] == "-"
    assert (shown["requests"], shown["qps"], shown["p99 ms"]) == ("4", "4.0", "20.0")


def test_followed_rows_stand_under_their_headings() -> None:
    row = ServiceMetricsRow.model_validate(service_row())
    head, line = as_line(COLUMNS), as_line(cells(row))
    assert len(head) == len(line)
    assert head.index("requests") + len("requests") == line.index(" 4 ") + 2
