"""Errors of the Kubernetes API: how a request failed, and where no API server is known."""

from __future__ import annotations

from typing import Literal

Failure = Literal["conflict", "forbidden", "busy", "refused", "not-ours", "unavailable"]
"""conflict: the object has changed since it was read. forbidden: missing rights. busy: too many requests. refused: the
schema or an admission webhook rejects the object. unavailable: no answer, or no usable one."""


class KubernetesUnknown(Exception):
    """No address of the Kubernetes API, or no credentials, are configured. The message names the remedy."""


class ApiFailed(Exception):
    """A failed request. The message names the fault, its place and the remedy; `failure` is its kind.

    retry_after_seconds: of the API server's answer; None without one.
    """

    def __init__(self, failure: Failure, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
        self.retry_after_seconds = retry_after_seconds
