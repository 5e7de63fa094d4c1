"""Names that log rotation gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.adapters.shipping.rotation import base_of, bases_of, rotations_of

LOG = Path("/logs/access.log")


@pytest.mark.parametrize(
    "name",
    [
        "access.log.1",
        "access.log.1.gz",
        "access.log.12",
        "access.log-20261124",
        "access.log-20261124.gz",
        "access.log-20261124-1790000000.gz",
        "access.log.2026-11-24T10:00:00",
        "access-2026-11-24.log",
        "access.20261124.log.gz",
        "access.log.gz",
    ],
)
def test_a_rotated_name_leads_to_the_log(name: str) -> None:
    assert LOG in bases_of(LOG.with_name(name))
    assert base_of(LOG.with_name(name), {LOG}) == LOG


@pytest.mark.parametrize(
    "name", ["access.log.bak", "access.log.1.tmp", "other.log.1", "access.logs", "access"]
)
def test_another_name_does_not(name: str) -> None:
    assert LOG not in bases_of(LOG.with_name(name))


def test_a_numbered_log_without_a_base_is_a_log_of_its_own() -> None:
    numbered = Path("/logs/gateway-1.log")
    assert base_of(numbered, {numbered, Path("/logs/gateway-2.log")}) == numbered


def test_what_lies_beside_the_log_is_listed(tmp_path: Path) -> None:
    for name in ("access.log", "access.log.1", "access.log.2.gz", "error.log.1", "access.log.bak"):
        (tmp_path / name).touch()
    assert [path.name for path in rotations_of(tmp_path / "access.log")] == [
        "access.log.1",
        "access.log.2.gz",
    ]
    assert rotations_of(tmp_path / "gone" / "access.log") == []
