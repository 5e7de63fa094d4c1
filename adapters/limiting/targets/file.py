"""The target envoy-file: limits in a route (RDS) file that Envoy watches, replaced by an atomic rename.

The file belongs to the platform: its routes stay unchanged, except for the limits and tidegate's marks of the routes
that the catalog names; fields of a route's limit filter that tidegate doesn't own stay, too. JSON or YAML by its suffix
(YAML loses its comments). A lock file beside it serializes writers.

The limits in force are those of Envoy's `config_dump`, of each configured admin page; without admin pages, those of the
file. An Envoy that doesn't answer, or has no routes yet, serves no requests, so the others decide; if none answers, the
limits in force are unknown.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import orjson
import yaml

from tidegate.adapters.limiting.targets.base import Refused, TargetFailed
from tidegate.jobs.logic.limits.envoy_limits import (
    ENVOYS_DEFAULTS_BUT_GRPC,
    Limit,
    LimitedAnswer,
    TaskKey,
    marks_of,
    read_route,
    routes_of,
    with_limit,
)
from tidegate.schemas.catalog import Gateway

_ADMIN_SECONDS = 1.0
_ADMIN_AGAIN_SECONDS = 0.2
"""The timeout for an Envoy that didn't answer the last time, so that it doesn't delay the others each time."""
_TRIES = 5
_LOCK_SECONDS = 2.0
_LOCK_LOOK_SECONDS = 0.02


class EnvoyFileTarget:
    """Route files by gateway, and the admin pages (`host:port`) of the Envoys that read them."""

    name = "envoy-file"

    def __init__(
        self,
        files: Mapping[str, Path],
        admins: Mapping[str, tuple[str, ...]],
        answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC,
    ) -> None:
        """answer: its body is of the listener, which is not in these files."""
        self._files = files
        self._answer = answer
        self._admins = admins
        self._silent: set[str] = set()

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Ignored: the settings name each gateway's file."""

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """The limits that all Envoys of the gateway have; without admin pages, those of the file.

        Raises TargetFailed if the file can't be read, or no Envoy answers.
        """
        if not self._admins.get(gateway):
            return limits_of([_content(self._file(gateway))], self._answer)
        return in_all(list(self._limits_of_envoys(gateway)))

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Write these limits into the file, which stays untouched if it has all of them already.

        Raises TargetFailed if the file can't be read or replaced.
        """
        path = self._file(gateway)
        wanted = list(limits)
        with _locked(path):
            for _ in range(_TRIES):
                before = _stat(path)
                content = _content(path)
                refused, changed = put(content, wanted, self._answer)
                if not changed or _replace(path, content, before):
                    return refused
        raise TargetFailed(
            f"{path}: another process changed it during each of {_TRIES} attempts, so nothing was written; find the "
            "process that rewrites it"
        )

    def _file(self, gateway: str) -> Path:
        try:
            return self._files[gateway]
        except KeyError:
            raise TargetFailed(
                f"gateway {gateway!r} has no route file; name it in limits.envoy_files"
            ) from None

    def _limits_of_envoys(self, gateway: str) -> Iterator[Mapping[TaskKey, Limit]]:
        admins = self._admins[gateway]
        seconds = [_ADMIN_AGAIN_SECONDS if admin in self._silent else _ADMIN_SECONDS for admin in admins]
        with ThreadPoolExecutor(len(admins)) as threads:
            answers = list(threads.map(_routes_in_force, admins, seconds))
        silent = {
            admin for admin, answer in zip(admins, answers, strict=True) if isinstance(answer, Exception)
        }
        # Replaced, not mutated: the threads of several gateways share it.
        self._silent = (self._silent - set(admins)) | silent
        routes_in_force = [answer for answer in answers if not isinstance(answer, Exception)]
        if not routes_in_force:
            raise TargetFailed(
                f"no Envoy of gateway {gateway!r} answers at {', '.join(admins)} ({answers[0]}); check "
                "limits.envoy_admins and that the Envoys run"
            )
        return (limits_of(routes, self._answer) for routes in routes_in_force)


def limits_of(
    route_configurations: Iterable[Mapping[str, Any]], answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC
) -> dict[TaskKey, Limit]:
    """The limits with tidegate's marks in these route configurations.

    A task's former route keeps its marks, so the highest revision counts. If several routes have that revision with
    different limits, the task has no limit in force.
    """
    newest: dict[TaskKey, Limit] = {}
    unlike: set[TaskKey] = set()
    for limit in (read_route(route, answer) for one in route_configurations for route in _routes(one)):
        if limit is None:
            continue
        before = newest.get(limit.key)
        if before is None or limit.revision > before.revision:
            newest[limit.key] = limit
            unlike.discard(limit.key)
        elif limit.revision == before.revision and limit != before:
            unlike.add(limit.key)
    return {key: limit for key, limit in newest.items() if key not in unlike}


def in_all(found: list[Mapping[TaskKey, Limit]]) -> dict[TaskKey, Limit]:
    """The limits that all Envoys have alike: a limit of only some of them is not in force yet."""
    return {
        key: limit for key, limit in found[0].items() if all(other.get(key) == limit for other in found[1:])
    }


def put(
    content: Any, limits: Iterable[Limit], answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC
) -> tuple[dict[TaskKey, Refused], bool]:
    """Put limits into a route file's content, in place. Returns the rejected ones, and whether the content changed."""
    by_route = {limit.route: limit for limit in limits}
    refused = {
        limit.key: Refused(f"the file has no route named {limit.route!r}") for limit in by_route.values()
    }
    changed = False
    for route in _routes(content):
        limit = by_route.get(str(route.get("name") or ""))
        if limit is None:
            continue
        refused.pop(limit.key, None)
        marks = marks_of(route)
        if marks is not None and marks[0] == limit.key and marks[1] > limit.revision:
            refused[limit.key] = Refused(
                f"the file has revision {marks[1]}, newer than {limit.revision}", marks[1]
            )
            continue
        there = read_route(route, answer)
        if there == limit:
            continue
        if there is not None and there.key == limit.key and there.revision == limit.revision:
            refused[limit.key] = Refused(
                f"the file has another limit of the same revision, {limit.revision}", limit.revision
            )
            continue
        merged = with_limit(route, limit, answer)
        route.clear()
        route.update(merged)
        changed = True
    return refused, changed


def _routes(content: Any) -> Iterator[dict[str, Any]]:
    """The routes of a route configuration, or of the route configurations in a discovery response."""
    for resource in content.get("resources") or [content]:
        yield from routes_of(resource)


def _content(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        content = orjson.loads(raw) if _is_json(path) else yaml.safe_load(raw)
    except (OSError, orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise TargetFailed(f"{path}: can't be read: {error}") from error
    try:
        whole = isinstance(content, dict) and all(isinstance(route, dict) for route in _routes(content))
    except (AttributeError, TypeError):
        whole = False
    if not whole:
        raise TargetFailed(f"{path}: not a route configuration; write it in the form of Envoy's RDS")
    return content  # type: ignore[no-any-return]


def _stat(path: Path) -> os.stat_result:
    try:
        before = path.stat(follow_symlinks=False)
    except OSError as error:
        raise TargetFailed(f"{path}: can't be read: {error}") from error
    if stat.S_ISLNK(before.st_mode):
        raise TargetFailed(
            f"{path}: a symbolic link, whose replacement would cut Envoy off from {path.resolve()}; name that file "
            "in limits.envoy_files"
        )
    return before


def _replace(path: Path, content: dict[str, Any], before: os.stat_result) -> bool:
    """Replace the file that was read. Returns False if it has changed since: other processes take no lock."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(content, indent=1) if _is_json(path) else yaml.safe_dump(content, sort_keys=False)
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _as_before(draft, before)
        if _stamp(path.stat(follow_symlinks=False)) != _stamp(before):
            draft.unlink()
            return False
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise TargetFailed(f"{path}: can't be replaced: {error}") from error
    return True


def _stamp(one: os.stat_result) -> tuple[int, int, int]:
    return one.st_ino, one.st_mtime_ns, one.st_size


def _as_before(draft: Path, before: os.stat_result) -> None:
    """Copy owner, group and mode of the replaced file: Envoy runs as another user, and must read it."""
    now = draft.stat()
    for owner, group in ((before.st_uid, before.st_gid), (-1, before.st_gid)):
        if (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid):
            break
        with suppress(PermissionError):
            os.chown(draft, owner, group)
            break
    draft.chmod(before.st_mode & 0o777)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    try:
        file = lock.open("w")
    except OSError as error:
        raise TargetFailed(f"{path}: its folder can't be written: {error}") from error
    with file:
        _take(file, lock)
        yield


def _take(file: IO[str], lock: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TargetFailed(
                    f"{lock}: another process has held the lock for over {_LOCK_SECONDS:g} s; end the controller that "
                    "hangs"
                ) from None
            time.sleep(_LOCK_LOOK_SECONDS)


def _is_json(path: Path) -> bool:
    return path.suffix == ".json"


def _routes_in_force(admin: str, seconds: float) -> list[dict[str, Any]] | Exception:
    url = f"http://{admin}/config_dump?resource=dynamic_route_configs"
    try:
        with urlopen(url, timeout=seconds) as answer:
            dump = orjson.loads(answer.read())
        found = [entry["route_config"] for entry in dump.get("configs", []) if "route_config" in entry]
    except (OSError, HTTPException, ValueError, AttributeError, KeyError, TypeError) as error:
        return error
    # Without routes it rejects every request: it has just started, or its file is not valid.
    return found or LookupError("it has no routes")
