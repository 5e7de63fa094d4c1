"""List and watch for one kind of Kubernetes objects: listed once, then watched, and listed again after every failure.

An open watch proves nothing: a connection can be dead without an error, and an API server that has lost etcd still
serves watches from its cache. So watches are short (`watch_seconds`), and after the server ends one in time, one object
is read from etcd. Only then is everything up to the watch's end proven.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import urllib3
from kubernetes import client

from tidegate.adapters.backoff import Backoff

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE = 500
_INITIAL_BACKOFF_SECONDS = 0.5
_WARN_EVERY_SECONDS = 60.0
_GONE = 410


@dataclass(frozen=True)
class Kind(Generic[T]):
    """The objects to follow. path: of the API, all namespaces or one. read: from JSON; None for an irrelevant one."""

    name: str
    path: str
    read: Callable[[Mapping[str, Any]], T | None]
    label_selector: str = ""


@dataclass(frozen=True)
class Listed(Generic[T]):
    """All objects by `namespace/name`, as of some moment after `at_ms`."""

    kind: str
    objects: Mapping[str, T]
    at_ms: int


@dataclass(frozen=True)
class Changed(Generic[T]):
    """A new or changed object; None: it is deleted, or no longer selected."""

    kind: str
    key: str
    now: T | None
    at_ms: int


@dataclass(frozen=True)
class Proven:
    """All changes up to this moment have been reported."""

    kind: str
    at_ms: int


@dataclass(frozen=True)
class Lost:
    """Changes from now on are not observed, until the next `Listed`."""

    kind: str


FeedEvent = Listed[Any] | Changed[Any] | Proven | Lost


class Expired(Exception):
    """The API server has discarded the changes since this version (410): list again."""


class FeedLost(Exception):
    """The API server gives no answer, or an unexpected one; the message holds which."""


class Feed(Generic[T]):
    """Follows one kind in its own thread, and puts events into a queue."""

    def __init__(
        self,
        api: client.ApiClient,
        kind: Kind[T],
        events: SimpleQueue[FeedEvent],
        *,
        request_seconds: float,
        watch_seconds: int,
        max_backoff_seconds: float,
    ) -> None:
        self._api = api
        self._kind = kind
        self._events = events
        self._request_seconds = request_seconds
        self._watch_seconds = watch_seconds
        self._backoff = Backoff(min(_INITIAL_BACKOFF_SECONDS, max_backoff_seconds), max_backoff_seconds)
        self._failures = 0
        self._warned_at = -_WARN_EVERY_SECONDS
        self._lost = False
        self._stop = threading.Event()
        self._open: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"feed-{kind.name}", daemon=True)

    def start(self) -> None:
        """Start, and never give up: a request that is rejected now may be allowed later."""
        self._thread.start()

    def halt(self) -> None:
        """Begin to stop: an open watch is aborted."""
        self._stop.set()
        shutdown = getattr(
            self._open, "shutdown", None
        )  # urllib3 2.3 or newer; otherwise the watch ends with its timeout
        if shutdown is not None:
            with contextlib.suppress(ValueError, OSError, RuntimeError):  # it has ended meanwhile
                shutdown()

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self.halt()
        self._thread.join(self._request_seconds)

    def list_all(self) -> tuple[dict[str, T], str]:
        """All objects by `namespace/name`, and their resourceVersion. Raises Expired and FeedLost."""
        objects: dict[str, T] = {}
        more = ""
        while True:
            query = {"limit": str(_PAGE)} | ({"continue": more} if more else {})
            page = self._page(query)
            for raw in page["items"]:
                read = self._kind.read(raw)
                if read is not None:
                    objects[_key(raw)] = read
            more = page["metadata"].get("continue") or ""
            if not more:
                return objects, page["metadata"]["resourceVersion"]

    def watch(self, version: str) -> Iterator[tuple[FeedEvent, str]]:
        """The events after this resourceVersion, each with the version to continue from, and `Proven` at the end.

        Ends when the server ends the watch. Raises Expired and FeedLost.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._watch_seconds),
        }
        response = self._get(query, self._watch_seconds + self._request_seconds)
        self._open = response
        try:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _ended(event["object"])
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    yield self._changed(event["type"], event["object"]), version
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            raise FeedLost(f"its watch was interrupted: {type(error).__name__}: {error}") from error
        finally:
            self._open = None
            response.close()
        at_ms = _now_ms()
        self._page({"limit": "1"})  # without a resourceVersion: answered from etcd, not from the cache
        yield Proven(self._kind.name, at_ms), version

    def _changed(self, type_: str, raw: Mapping[str, Any]) -> Changed[T]:
        now = None if type_ == "DELETED" else self._kind.read(raw)
        return Changed(self._kind.name, _key(raw), now, _now_ms())

    def _page(self, query: Mapping[str, str]) -> Any:
        """One page of a list. Raises Expired and FeedLost."""
        response = self._get(query, self._request_seconds)
        try:
            return json.loads(response.read())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise FeedLost(f"its list was interrupted: {error}") from error

    def _run(self) -> None:
        version: str | None = None
        while not self._stop.is_set():
            try:
                if version is None:
                    version = self._relist()
                for event, reached in self.watch(version):
                    version = reached
                    self._recovered()
                    self._events.put(event)
                    if self._stop.is_set():
                        return
            except Expired as error:
                log.info("%s: %s; listing again", self._kind.name, error)
                version = None
                if self._failures:  # a watch that expires right after its list
                    self._wait()
                self._failures += 1
            except FeedLost as error:
                version = None
                self._lose(str(error))
            except Exception as error:  # otherwise one malformed object would end the thread
                version = None
                if not self._stop.is_set():
                    log.exception("%s: an answer of the API server can't be read", self._kind.name)
                self._lose(f"an answer of the API server can't be read: {error!r}")

    def _relist(self) -> str:
        at_ms = _now_ms()
        objects, version = self.list_all()
        self._events.put(Listed(self._kind.name, objects, at_ms))
        return version

    def _recovered(self) -> None:
        self._failures = 0
        if self._lost:
            self._lost = False
            self._warned_at = -_WARN_EVERY_SECONDS
            log.info("%s: followed again", self._kind.name)

    def _lose(self, reason: str) -> None:
        if self._stop.is_set():
            return
        self._failures += 1
        self._lost = True
        self._events.put(Lost(self._kind.name))
        if time.monotonic() - self._warned_at >= _WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            log.warning("%s: %s; its rows pause until it is listed again", self._kind.name, reason)
        self._wait()

    def _wait(self) -> None:
        self._stop.wait(self._backoff.delay(self._failures, random.random()))  # noqa: S311 (jitter)

    def _get(self, query: Mapping[str, str], read_seconds: float) -> urllib3.BaseHTTPResponse:
        """The response, not read yet. Raises Expired and FeedLost."""
        if self._kind.label_selector:
            query = {**query, "labelSelector": self._kind.label_selector}
        try:
            response: urllib3.BaseHTTPResponse = self._api.call_api(
                self._kind.path,
                "GET",
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                response_type="object",
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(self._request_seconds, read_seconds),
            )
        except client.ApiException as error:
            raise _refusal(self._kind.path, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            host = self._api.configuration.host
            raise FeedLost(f"no Kubernetes API answers at {host} ({_reason(error)})") from error
        return response


def _ended(status: Mapping[str, Any]) -> Exception:
    """The error of a watch that can't continue."""
    reason = str(status.get("message") or status)
    return Expired(reason) if status.get("code") == _GONE else FeedLost(f"its watch ended: {reason}")


def _refusal(path: str, error: client.ApiException) -> Exception:
    try:
        reason = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        reason = error.reason
    if error.status == _GONE:
        return Expired(reason)
    hint = {401: "; renew the token", 403: "; apply deploy/kubernetes/watcher-rbac.yaml"}
    return FeedLost(
        f"the Kubernetes API answers {error.status} to {path}: {reason}{hint.get(error.status, '')}"
    )


def _reason(error: Exception) -> object:
    return getattr(error, "reason", None) or error


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Whole lines, as they arrive."""
    rest = b""
    for chunk in response.stream(amt=None):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)
    if rest:
        raise FeedLost("its watch was interrupted in the middle of an event")


def _key(raw: Mapping[str, Any]) -> str:
    metadata = raw["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
