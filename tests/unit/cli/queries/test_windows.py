"""How `tidegate windows` reads its options and shows a row."""

from __future__ import annotations

from datetime import timedelta

import pytest
import typer

from tests.contract.test_row_contracts import service_row
from tidegate.cli.queries.windows import COLUMNS, as_line, cells, read_age
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("0s", 0)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert read_age(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5x", "1.5h", "9999999s"])
def test_any_other_age_is_wrong_use(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 5m"):
        read_age(text)


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
