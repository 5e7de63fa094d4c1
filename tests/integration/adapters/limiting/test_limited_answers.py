"""What a limited request gets from a real Envoy, by the settings."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.limit_world import GATEWAY, Envoys, envoys, routes_of
from tests.support.waiting import until
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.demo import envoy_config
from tidegate.demo.envoy_config import PATH_PREFIX, TASK_HEADER
from tidegate.jobs.logic.limits.envoy_limits import Limit, LimitedAnswer, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket

pytestmark = pytest.mark.timeout(120)

CHAT = TaskKey("vision", "chat")
ONCE_A_DAY = TokenBucket(1, 1, 86_400_000)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Envoys, Path]]:
    """One Envoy and its route file."""
    folder = tmp_path_factory.mktemp("answers")
    routes = folder / "routes.json"
    envoy_config.replace(routes, routes_of(["chat"]))
    with envoys(folder / "gateway", routes, "one") as started:
        yield started, routes


def limited(port: int, content_type: str) -> tuple[int, dict[str, str]]:
    """Status and headers of a limited request."""
    found: list[tuple[int, dict[str, str]]] = []

    def is_limited() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        headers = {TASK_HEADER: "chat", "content-type": content_type}
        connection.request("POST", PATH_PREFIX, b"", headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        found.append((answer.status, {name.lower(): value for name, value in answer.getheaders()}))
        return answer.status != 200 or found[-1][1].get("grpc-status") is not None

    until(is_limited, "a limited request")
    return found[-1]


@pytest.mark.parametrize(
    ("revision", "answer", "status", "grpc_status"),
    [
        (1, LimitedAnswer(), 429, "8"),
        (2, LimitedAnswer(status=503, x_ratelimit_headers=True, grpc_resource_exhausted=False), 503, "14"),
    ],
)
def test_a_limited_request_gets_the_answer_of_the_settings(
    running: tuple[Envoys, Path], revision: int, answer: LimitedAnswer, status: int, grpc_status: str
) -> None:
    started, routes = running
    target = EnvoyFileTarget({GATEWAY: routes}, {GATEWAY: started.admins()}, answer)
    limit = Limit(CHAT, "chat", revision, ONCE_A_DAY)
    assert not target.write(GATEWAY, [limit])
    until(lambda: target.read(GATEWAY) == {CHAT: limit}, "Envoy reports the limit and its answer")
    (port,) = started.ports()
    code, headers = limited(port, "text/plain")
    assert code == status
    assert ("x-ratelimit-limit" in headers) == answer.x_ratelimit_headers
    code, headers = limited(port, "application/grpc")
    assert (code, headers["grpc-status"]) == (200, grpc_status)
