"""Settings of identity: what names a task, and which expressions are refused with their reason."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT
from tidegate.schemas.settings import AccessLog


@pytest.mark.parametrize("key", ["upstream_cluster", "route_name", "x_task", "metadata.task"])
def test_the_gateways_own_keys_may_name_a_task(key: str) -> None:
    assert AccessLog(name_key=key).name_key == key


@pytest.mark.parametrize("key", sorted(set(ACCESS_LOG_FORMAT) - {"upstream_cluster", "route_name"}))
def test_what_a_client_sends_or_means_something_else_names_no_task(key: str) -> None:
    with pytest.raises(
        ValidationError, match=rf"'{key}' .* doesn't say what the gateway decided; use upstream_cluster"
    ):
        AccessLog(name_key=key)


@pytest.mark.parametrize("key", ["", "a b", "1st", "k" * 129])
def test_a_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="is not a key of the access log"):
        AccessLog(name_key=key)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<task>.*)",
        r"(?<task>[^/]+)/(?<department>\w+)/(?:v(?P<version>\d{1,3}))?",
        r"outbound\|\d+\|(?P<version>[^|]*)\|(?P<task>[a-z-]+)\.(?P<department>[a-z-]+)\..*",
        r"\\(?P<task>p)",
    ],
)
def test_an_expression_with_a_task_is_accepted(pattern: str) -> None:
    assert AccessLog(name_pattern=pattern).name_pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(?P<task>", "is not a valid RE2 expression: missing )"),
        (r"(?P<task>a)(?=b)", "has '(?=' at position 11"),
        (r"(?i)(?P<task>a)", "has '(?i' at position 0"),
        (r"(?P<task>a)\1", r"has '\\1' at position 11"),
        (r"(?P<task>\pL)", r"has '\\p' at position 9"),
        (r"(?P<task>[[:alpha:]])", "has '[[:' at position 9"),
        (r"(?P<task>a{2000})", "is not a valid RE2 expression: invalid repetition size"),
        (r"[a-z]+", "has the named groups none; it needs task"),
        (r"(?P<version>a)", "has the named groups version; it needs task"),
        (r"(?P<task>a)(?P<port>\d)", "has the named groups port, task; it needs task, and may have"),
    ],
)
def test_an_expression_that_not_every_engine_reads_alike_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AccessLog(name_pattern=pattern)
    assert reason in str(refused.value)
    assert repr(pattern) in str(refused.value)
