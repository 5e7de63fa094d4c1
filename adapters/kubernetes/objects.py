"""Objects of the Kubernetes API, one request each: get and server-side apply.

No request is repeated here: the caller decides whether that is safe, and honours the API server's `Retry-After`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import urllib3

from tidegate.adapters.kubernetes.client import connect
from tidegate.adapters.kubernetes.errors import ApiFailed, Failure
from tidegate.jobs.logic.istio.objects import Kind
from tidegate.schemas.settings.limits import Kubernetes

NOT_THERE_YET = "1"
"""The resourceVersion for a create: every existing object has a higher one, so it is a conflict."""
_APPLY = "application/apply-patch+yaml"


class KubernetesObjects:
    """A connection to one API server. Safe to use from several threads."""

    def __init__(self, settings: Kubernetes) -> None:
        """Raises KubernetesUnknown without a service account and without a usable kubeconfig."""
        self._api = connect(settings)
        self._seconds = settings.request_timeout_seconds
        self._manager = settings.field_manager

    @property
    def address(self) -> str:
        """The API server's address."""
        return str(self._api.configuration.host)

    def close(self) -> None:
        """Close the connections."""
        self._api.rest_client.pool_manager.clear()

    def check(self) -> None:
        """Raises ApiFailed if the API server is not ready, or rejects the credentials."""
        status, answer, headers = self._send("GET", "/readyz", {}, None)
        if status != 200:
            raise _failed(f"{self.address}/readyz", status, answer, headers)

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """The object; None if it doesn't exist. Raises ApiFailed."""
        status, answer, headers = self._send("GET", _path(kind, namespace, name), {}, None)
        if status == 404 and _is_about(answer, name):
            return None
        if status != 200:
            raise _failed(_shown(kind, namespace, name), status, answer, headers)
        return _object(_shown(kind, namespace, name), answer)

    def create(self, kind: Kind, wanted: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Apply an object that must not exist yet. Raises ApiFailed, a conflict if it does."""
        metadata = wanted["metadata"] | {"resourceVersion": NOT_THERE_YET}
        return self._apply(kind, dict(wanted) | {"metadata": metadata}, dry_run=dry_run, force=False)

    def replace(self, kind: Kind, wanted: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Apply an object of tidegate over the one that was read, whose uid and resourceVersion are in `wanted`.

        Takes ownership of tidegate's fields back from other managers. Raises ApiFailed, a conflict if the object has
        changed since.
        """
        if not {"uid", "resourceVersion"} <= wanted["metadata"].keys():
            raise ValueError("without uid and resourceVersion the apply could overwrite unseen changes")
        return self._apply(kind, wanted, dry_run=dry_run, force=True)

    def _apply(self, kind: Kind, wanted: Mapping[str, Any], *, dry_run: bool, force: bool) -> dict[str, Any]:
        namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        query = {"fieldManager": self._manager, "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        # JSON is YAML, and the server reads it faster.
        status, answer, headers = self._send(
            "PATCH", _path(kind, namespace, name), query, orjson.dumps(wanted)
        )
        if status not in (200, 201):
            raise _failed(_shown(kind, namespace, name), status, answer, headers)
        return _object(_shown(kind, namespace, name), answer)

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _APPLY
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{self.address}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._api.rest_client.pool_manager.request(
                method, url, body=body, headers=headers, retries=False, timeout=urllib3.Timeout(self._seconds)
            )
        except (urllib3.exceptions.HTTPError, ssl.SSLError, OSError) as error:
            raise ApiFailed(
                "unavailable",
                f"the Kubernetes API at {self.address} doesn't answer: {error or type(error).__name__}; "
                "check that it runs and that kubernetes.kubeconfig points to it",
            ) from error
        return answer.status, answer.data, answer.headers


def _path(kind: Kind, namespace: str, name: str) -> str:
    return f"/apis/{kind.group}/{kind.version}/namespaces/{_safe(namespace)}/{kind.plural}/{_safe(name)}"


def _safe(part: str) -> str:
    return quote(part, safe="")


def _shown(kind: Kind, namespace: str, name: str) -> str:
    return f"{kind.kind} {namespace}/{name}"


def _object(what: str, answer: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(answer)
        if isinstance(found, dict):
            return found
    except orjson.JSONDecodeError:
        pass
    raise ApiFailed("unavailable", f"{what}: the answer is not a JSON object; check the API server's address")


def _status(answer: bytes) -> dict[str, Any]:
    try:
        status = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return {}
    return status if isinstance(status, dict) else {}


def _is_about(answer: bytes, name: str) -> bool:
    """Whether a 404 is about the object, and not about its kind."""
    return (_status(answer).get("details") or {}).get("name") == name


def _failed(what: str, status: int, answer: bytes, headers: Mapping[str, str]) -> ApiFailed:
    message = (
        _status(answer).get("message") or answer[:300].decode("utf-8", "replace").strip() or "no reason given"
    )
    failure, advice = _kind_of(status, str(message))
    reason = f"{what}: the API server answers {status}: {message}"
    return ApiFailed(failure, reason + (f"; {advice}" if advice else ""), _retry_after(headers))


def _kind_of(status: int, message: str) -> tuple[Failure, str]:  # noqa: PLR0911 (one for each answer)
    admission = "admission webhook" in message or "ValidatingAdmissionPolicy" in message
    if status == 409:
        return "conflict", ""
    if admission and 400 <= status < 500:
        return "refused", "ask the owner of that admission policy"
    if status == 401:
        return "forbidden", "the account's token is not valid; renew it"
    if status == 403:
        return "forbidden", "give this account the rights of deploy/kubernetes"
    if status == 404:
        return "unavailable", "the namespace or Istio's CRDs are missing; install them"
    if status == 429:
        return "busy", "it limits the rate of requests"
    if status == 413 or "too large" in message:
        return "refused", "the object is too large for the API server; spread the tasks over more gateways"
    if status in (400, 422):
        return "refused", ""
    return "unavailable", ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
