"""Errors of the Kubernetes API: how a request failed, and where no API server is known."""

from __future__ import annotations

from typing import Literal

Failure = Literal["conflict", "forbidden", "busy", "refused", "not-ours", "unavailable"]
"""conflict: the object is another by now. forbidden: no right to. busy: too many requests. refused: the object isn't
taken as it is, by its schema or an admission webhook. unavailable: no answer, or no useful one."""


class KubernetesUnknown(Exception):
    """It isn't known where the Kubernetes API is, or who we are there. The message says what to do."""


class ApiFailed(Exception):
    """The API server didn't do it. The message says what, where and what to do; `failure` says which kind it is.

    retry_after_seconds: what the API server asked for; None where it didn't say.
    """

    def __init__(self, failure: Failure, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.failure = failure
        self.retry_after_seconds = retry_after_seconds
