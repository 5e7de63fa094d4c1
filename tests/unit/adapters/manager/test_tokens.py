"""The manager's tokens: who is let in, a file that changes, and that nothing secret is shown."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
import yaml

from tidegate.adapters.manager.tokens import Tokens
from tidegate.schemas.settings import SettingsError


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def write(path: Path, *callers: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(list(callers)))


def caller(name: str, token: str, *roles: str) -> dict[str, object]:
    return {"name": name, "token_sha256": digest(token), "roles": list(roles or ("read",))}


def test_a_token_is_its_callers_and_no_other_is_anybodys(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    write(path, caller("controller", "s3cret", "read", "limit"), caller("platform", "other", "route"))
    tokens = Tokens(path)
    found = tokens.caller_of("s3cret")
    assert found is not None
    assert (found.name, found.roles) == ("controller", {"read", "limit"})
    for wrong in ("", "s3cre", "s3cret ", "S3CRET", digest("s3cret"), "\ud800"):
        assert tokens.caller_of(wrong) is None


def test_a_changed_file_is_read_anew_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.yaml"
    write(path, caller("a", "one"))
    tokens = Tokens(path)
    write(path, caller("a", "one"), caller("b", "two"))
    assert tokens.caller_of("two") is not None
    write(path, caller("b", "two"))
    assert tokens.caller_of("one") is None
    with caplog.at_level(logging.ERROR):
        path.write_text("- name: [")
        assert tokens.caller_of("two") is not None
        path.unlink()
        assert tokens.caller_of("two") is not None
    assert "the last valid one stays" in caplog.text


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("", "valid list"),
        ("[]", "empty"),
        ("a: b", "valid list"),
        ("- [", "not YAML, line"),
        ("- {name: a, token: hunter2, roles: [read]}", "0.token_sha256: Field required"),
        ("- {name: a, token_sha256: hunter2, roles: [read]}", "0.token_sha256: String should match"),
        (f"- {{name: a, token_sha256: {digest('hunter2')}, roles: [all]}}", "0.roles.0"),
        (f"- {{name: a, token_sha256: {digest('hunter2')}, roles: []}}", "0.roles"),
        (f"- {{name: '', token_sha256: {digest('hunter2')}, roles: [read]}}", "0.name"),
    ],
)
def test_a_file_that_lets_nobody_in_is_an_error_that_tells_nothing_secret(
    tmp_path: Path, text: str, reported: str
) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        Tokens(path)
    assert reported in str(error.value)
    assert str(path) in str(error.value)
    assert "hunter2" not in str(error.value)
    assert digest("hunter2") not in str(error.value)


def test_two_callers_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    write(path, caller("a", "one"), caller("a", "two"))
    with pytest.raises(SettingsError, match="a is given twice"):
        Tokens(path)


@pytest.mark.parametrize("path", [None, Path("nowhere.yaml")])
def test_without_a_file_the_manager_does_not_start(path: Path | None) -> None:
    with pytest.raises(SettingsError, match=r"manager\.tokens_file"):
        Tokens(path)


def test_a_caller_shown_in_a_message_has_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    write(path, caller("a", "one"))
    assert digest("one") not in repr(Tokens(path).caller_of("one"))
