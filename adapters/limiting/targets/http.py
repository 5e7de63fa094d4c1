"""The target http: limits go to the K8S manager, or to a service with the same HTTP interface."""

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
    """The manager at `limits.manager_url`. The limits of one gateway go in one request."""

    name = "http"

    def __init__(self, limits: Limits, timeout_seconds: float = 15) -> None:
        """timeout_seconds: of one request, during which the manager waits for the API server.

        Raises TargetFailed if the token file can't be read.
        """
        self._url = limits.manager_url.rstrip("/")
        try:
            token = limits.token()
        except OSError as error:
            raise TargetFailed(f"limits.manager_token_file can't be read: {error}") from error
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # Its log line for each request repeats the controller's own.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        # No proxy from the environment: the token is for the manager only.
        self._client = httpx.Client(
            headers=headers, timeout=httpx.Timeout(timeout_seconds, connect=3), trust_env=False
        )

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Ignored: the manager reads the catalog itself."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """The limits in force, as the manager reports them. Raises TargetFailed."""
        answer = self._ask("GET", gateway, None)
        try:
            limits = [limit_of(one) for one in answer["limits"]]
        except (KeyError, TypeError, ValueError) as error:
            raise TargetFailed(
                f"{self._url}: the answer is not the manager's ({error!r}); check limits.manager_url"
            ) from error
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
                raise TargetFailed(
                    f"{self._url}: the answer is not the manager's ({error!r}); check limits.manager_url"
                ) from error
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
        body_json = _json(answer)
        if answer.status_code == 200 and body_json is not None:
            return body_json
        reason = (body_json or {}).get("reason") or f"{answer.reason_phrase} {answer.text[:200]}".strip()
        advice = _ADVICE.get(answer.status_code)
        raise TargetFailed(
            f"the manager at {self._url} answers {answer.status_code}: {reason}"
            + (f"; {advice}" if advice else ""),
            _retry_after(answer),
        )


def _json(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        decoded = answer.json()
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _retry_after(answer: httpx.Response) -> float | None:
    try:
        seconds = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
