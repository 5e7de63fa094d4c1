"""States that earlier releases stored (tests/fixtures/state) are restored: the same rows come of the same input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.state import FOLDER, read, restored_rows
from tests.support.keyed_cases import CASES

RELEASES = sorted(path for path in FOLDER.iterdir() if path.is_dir() and path.name[0].isdigit())


def known_then(found: Any, expected: Any) -> Any:
    """Without the fields that a row didn't have when the state was stored."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return {name: known_then(found[name], expected[name]) for name in expected if name in found}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [known_then(one, other) for one, other in zip(found, expected, strict=True)]
    return found


@pytest.mark.parametrize("uid", sorted(CASES))
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_stored_state_is_restored_with_the_same_rows(release: Path, uid: str) -> None:
    stored = read(release, uid)
    found = restored_rows(CASES[uid], stored.snapshot, stored.now_ms, stored.then)
    assert stored.rows
    assert known_then(found, stored.rows) == stored.rows


def test_every_function_has_a_stored_state_in_every_release() -> None:
    assert RELEASES
    for release in RELEASES:
        assert {path.stem for path in release.glob("*.json")} == set(CASES)
