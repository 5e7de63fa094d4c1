"""The target http: limits go to the K8S manager, or to a service that speaks as it does."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from tidegate.adapters.limiting.targets.base import Refused, TargetFailed
from tidegate.jobs.logic.istio.limit_bodies import MOST_LIMITS, body_of, limit_of
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings.limits import Limits

_ADVICE = {
    401: "check limits.manager_token or limits.manager_token_file",
    403: "give this token the roles read and limit in the manager's tokens file",
    404: "check limits.manager_url, and that manager and controller have the same catalog",
}


class HttpTarget:
    """The manager at `limits.manager_url`. Limits of one gateway go in one request."""

    name = "http"

    def __init__(self, limits: Limits, timeout_seconds: float = 15) -> None:
        """timeout_seconds: for the whole of the manager's work, which waits for the API server itself.

        Raises TargetFailed where the token's file can't be read.
        """
        self._url = limits.manager_url.rstrip("/")
        try:
            token = limits.token()
        except OSError as error:
            raise TargetFailed(f"limits.manager_token_file can't be read: {error}") from error
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # Its own log line for each request says nothing that the controller's don't.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        # No proxy of the environment: the token is for the manager alone.
        self._client = httpx.Client(
            headers=headers, timeout=httpx.Timeout(timeout_seconds, connect=3), trust_env=False
        )

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Nothing: the manager reads the catalog itself."""

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """What the manager says is in force. Raises TargetFailed."""
        answer = self._ask("GET", gateway, None)
        try:
            limits = [limit_of(one) for one in answer["limits"]]
        except (KeyError, TypeError, ValueError) as error:
            raise TargetFailed(f"{self._url}: its answer isn't the manager's: {error!r}") from error
        return {limit.key: limit for limit in limits}

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Put these limits in force through the manager. Raises TargetFailed."""
        wanted = list(limits)
        refused: dict[TaskKey, Refused] = {}
        for start in range(0, len(wanted), MOST_LIMITS):
            bodies = [body_of(limit) for limit in wanted[start : start + MOST_LIMITS]]
            answer = self._ask("PUT", gateway, {"limits": bodies})
            try:
                refused |= {
                    TaskKey(one["department"], one["task"]): Refused(one["reason"], one["revision"])
                    for one in answer["refused"]
                }
            except (KeyError, TypeError) as error:
                raise TargetFailed(f"{self._url}: its answer isn't the manager's: {error!r}") from error
        return refused

    def _ask(self, method: str, gateway: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        url = f"{self._url}/v1/gateways/{quote(gateway, safe='')}/rate-limits"
        try:
            answer = self._client.request(method, url, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TargetFailed(
                f"the manager at {self._url} doesn't answer: {error or type(error).__name__}; check that "
                "`tidegate manager` runs, and limits.manager_url"
            ) from error
        said = _json(answer)
        if answer.status_code == 200 and said is not None:
            return said
        reason = (said or {}).get("reason") or f"{answer.reason_phrase} {answer.text[:200]}".strip()
        advice = _ADVICE.get(answer.status_code)
        raise TargetFailed(
            f"the manager at {self._url} says {answer.status_code}: {reason}"
            + (f"; {advice}" if advice else ""),
            _retry_after(answer),
        )


def _json(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        said = answer.json()
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _retry_after(answer: httpx.Response) -> float | None:
    try:
        seconds = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
