"""The catalog's file as a source: what counts as a change, and what a mistake leaves as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.adapters.catalog.source import FileSource
from tidegate.schemas.catalog import CatalogError


def catalog(*gateways: str) -> str:
    return "gateways: {" + ", ".join(f"{name}: {{}}" for name in gateways) + "}\n"


def write(file: Path, text: str) -> None:
    """As editors do: a new file in place of the old one."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "tasks.yaml"
    write(found, catalog("edge"))
    return found


def test_another_file_is_a_change_and_the_same_one_is_not(file: Path) -> None:
    source = FileSource(file, poll_seconds=0)
    assert source.place == str(file)
    assert not source.changed()
    write(file, catalog("edge", "inner"))
    assert source.changed()
    assert set(source.catalog.gateways) == {"edge", "inner"}
    assert not source.changed()


def test_the_last_good_one_stays_and_the_mistake_is_logged_once_with_file_and_field(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = FileSource(file, poll_seconds=0)
    for wrong, reason in (
        (lambda: write(file, "gateways: nonsense\n"), "gateways"),
        (file.unlink, "can't be read"),
    ):
        caplog.clear()
        wrong()
        assert not source.changed()
        assert not source.changed()
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert "correct the file" in record.getMessage()
        assert f"{file}: {reason}" in record.getMessage()
        assert set(source.catalog.gateways) == {"edge"}
    write(file, catalog("inner"))
    assert source.changed()
    assert set(source.catalog.gateways) == {"inner"}


def test_the_file_is_looked_at_no_more_often_than_set(file: Path) -> None:
    source = FileSource(file, poll_seconds=3600)
    write(file, catalog("inner"))
    assert not source.changed()
    assert set(source.catalog.gateways) == {"edge"}


def test_a_file_with_a_mistake_at_the_start_is_an_error(file: Path) -> None:
    write(file, "gateways: nonsense\n")
    with pytest.raises(CatalogError, match=r"tasks\.yaml: gateways"):
        FileSource(file, poll_seconds=0)


def test_a_refresh_looks_at_the_file_though_it_is_not_due(file: Path) -> None:
    source = FileSource(file, poll_seconds=3600)
    write(file, catalog("inner"))
    assert not source.changed()
    source.refresh()
    assert set(source.catalog.gateways) == {"inner"}
