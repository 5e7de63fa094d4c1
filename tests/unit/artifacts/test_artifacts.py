"""Java parts: coordinates are read strictly, and nothing half downloaded is ever used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tidegate.artifacts import checksums, coordinates, maven
from tidegate.artifacts.maven import ArtifactUnavailable, Coordinate

PART = "org.example:part:jar:1.0"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Maven cache."""
    monkeypatch.setenv("M2_REPO", str(tmp_path))
    return tmp_path


def put(cache: Path, content: bytes = b"jar") -> Path:
    path = cache / "org" / "example" / "part" / "1.0" / "part-1.0.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("g:a:1", Coordinate("g", "a", "jar", "1")),
        ("g:a:zip:1", Coordinate("g", "a", "zip", "1")),
    ],
)
def test_a_coordinate_has_three_or_four_parts(text: str, wanted: Coordinate) -> None:
    assert Coordinate.parse(text) == wanted


@pytest.mark.parametrize("text", ["", "g", "g:a", "g:a:jar:classifier:1"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="group:artifact:version"):
        Coordinate.parse(text)


def test_every_pinned_part_has_a_fixed_version() -> None:
    for text in (coordinates.FLINK_KAFKA_CONNECTOR, coordinates.ELASTICSEARCH, *coordinates.KAFKA):
        assert Coordinate.parse(text).version[0].isdigit()


def test_a_part_in_the_cache_needs_no_network(cache: Path) -> None:
    path = put(cache)
    assert maven.file(PART) == path
    assert maven.artifact("org.example", "part", "1.0") == path


def test_a_cache_that_cannot_be_written_gives_what_it_has(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(cache)
    monkeypatch.setattr(maven.os, "access", lambda *_: False)
    assert maven.file(PART) == path
    assert [one.name for one in cache.iterdir()] == ["org"]


def test_a_download_that_was_interrupted_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there, and so is the note that it was being written when the process was killed."""
    path = put(cache, b"half")
    (cache / ".tidegate-downloading").write_text(str(path))

    def download(*_: object) -> Path:
        assert not path.exists()
        path.write_bytes(b"whole")
        return path

    monkeypatch.setattr("jgo.maven.PythonResolver.download", download)
    assert maven.file(PART).read_bytes() == b"whole"
    assert not (cache / ".tidegate-downloading").exists()


def test_a_failed_download_leaves_nothing_and_is_reported_without_an_address(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(cache)
    path.unlink()

    def fail(*_: object) -> Path:
        path.write_bytes(b"half")
        raise RuntimeError("part not found in remote repositories {'a': 'b'}")

    monkeypatch.setattr("jgo.maven.PythonResolver.download", fail)
    with pytest.raises(ArtifactUnavailable) as failure:
        maven.file(PART)
    assert not path.exists()
    assert PART in str(failure.value)
    assert "repositories" not in str(failure.value)


def test_a_pinned_part_with_another_content_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(cache, b"whole")
    monkeypatch.setattr(checksums, "pinned", lambda: {PART: hashlib.sha256(b"whole").hexdigest()})
    assert maven.file(PART) == path
    path.write_bytes(b"exchanged")
    with pytest.raises(ArtifactUnavailable, match=f"{PART}: {path} is damaged"):
        maven.file(PART)


@pytest.mark.parametrize(
    "text", [coordinates.FLINK_KAFKA_CONNECTOR, coordinates.ELASTICSEARCH, *coordinates.KAFKA]
)
def test_every_named_part_has_its_checksum_pinned(text: str) -> None:
    assert len(checksums.pinned()[text]) == 64
