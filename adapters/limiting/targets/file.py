"""The target envoy-file: limits in a route (RDS) file that Envoy watches, replaced by an atomic rename.

The file is the platform's own: its routes stay as they are, but for the limit and tidegate's marks of those that the
catalog names. JSON or YAML by its suffix (YAML loses its comments). Writers of one file take turns by a lock beside it.

In force is what Envoy itself says (`config_dump` of each admin page that is set); without admin pages, what the file
says. An Envoy that doesn't answer, or has no routes yet, enforces nothing that anybody sees, so the others decide; when
none answers, nothing is known.
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
    Limit,
    TaskKey,
    marks_of,
    read_route,
    routes_of,
    with_limit,
)
from tidegate.schemas.catalog import Gateway

_ADMIN_SECONDS = 1.0
_ADMIN_AGAIN_SECONDS = 0.2
"""For an Envoy that didn't answer the last time, so that it doesn't hold up the others each time."""
_TRIES = 5
_LOCK_SECONDS = 2.0
_LOCK_LOOK_SECONDS = 0.02


class EnvoyFileTarget:
    """Route files by gateway, and the admin pages (`host:port`) of the Envoys that read them."""

    name = "envoy-file"

    def __init__(self, files: Mapping[str, Path], admins: Mapping[str, tuple[str, ...]]) -> None:
        self._files = files
        self._admins = admins
        self._silent: set[str] = set()

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Nothing of the catalog: where a gateway's file is, the settings say."""

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """What all Envoys of the gateway hold; without admin pages what the file holds.

        Raises TargetFailed when the file can't be read, or no Envoy answers.
        """
        if not self._admins.get(gateway):
            return limits_of([_content(self._file(gateway))])
        return in_all(list(self._said_by_envoys(gateway)))

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Put these limits into the file. It is left alone where all of them stand there already.

        Raises TargetFailed when the file can't be read or replaced.
        """
        path = self._file(gateway)
        wanted = list(limits)
        with _locked(path):
            for _ in range(_TRIES):
                before = _stat(path)
                content = _content(path)
                refused, changed = put(content, wanted)
                if not changed or _replace(path, content, before):
                    return refused
        raise TargetFailed(f"{path}: somebody changes it all the time; nothing was written")

    def _file(self, gateway: str) -> Path:
        try:
            return self._files[gateway]
        except KeyError:
            raise TargetFailed(
                f"gateway {gateway!r} has no route file; name it in limits.envoy_files"
            ) from None

    def _said_by_envoys(self, gateway: str) -> Iterator[Mapping[TaskKey, Limit]]:
        admins = self._admins[gateway]
        seconds = [_ADMIN_AGAIN_SECONDS if admin in self._silent else _ADMIN_SECONDS for admin in admins]
        with ThreadPoolExecutor(len(admins)) as threads:
            answers = list(threads.map(_routes_in_force, admins, seconds))
        silent = {
            admin for admin, answer in zip(admins, answers, strict=True) if isinstance(answer, Exception)
        }
        # Replaced and not changed: the threads of several gateways may be here.
        self._silent = (self._silent - set(admins)) | silent
        said = [answer for answer in answers if not isinstance(answer, Exception)]
        if not said:
            raise TargetFailed(
                f"no Envoy of gateway {gateway!r} answers at {', '.join(admins)} ({answers[0]}); see "
                "limits.envoy_admins"
            )
        return (limits_of(routes) for routes in said)


def limits_of(route_configurations: Iterable[Mapping[str, Any]]) -> dict[TaskKey, Limit]:
    """The limits with our marks in these route configurations.

    Of a task that had another route before, that one keeps its marks: the highest revision counts. Where several
    routes have that one and don't say the same, it is in force in none.
    """
    newest: dict[TaskKey, Limit] = {}
    unlike: set[TaskKey] = set()
    for limit in (read_route(route) for one in route_configurations for route in _routes(one)):
        if limit is None:
            continue
        before = newest.get(limit.key)
        if before is None or limit.revision > before.revision:
            newest[limit.key] = limit
            unlike.discard(limit.key)
        elif limit.revision == before.revision and limit != before:
            unlike.add(limit.key)
    return {key: limit for key, limit in newest.items() if key not in unlike}


def in_all(said: list[Mapping[TaskKey, Limit]]) -> dict[TaskKey, Limit]:
    """The limits that all say alike: one that only some of the Envoys have is not in force yet."""
    return {
        key: limit for key, limit in said[0].items() if all(other.get(key) == limit for other in said[1:])
    }


def put(content: Any, limits: Iterable[Limit]) -> tuple[dict[TaskKey, Refused], bool]:
    """Put limits into a route file's content, in place. Returns those that were refused, and whether it changed."""
    by_route = {limit.route: limit for limit in limits}
    refused = {
        limit.key: Refused(f"no route is named {limit.route!r} in the file") for limit in by_route.values()
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
        there = read_route(route)
        if there == limit:
            continue
        if there is not None and there.key == limit.key and there.revision == limit.revision:
            refused[limit.key] = Refused(
                f"the file has another limit of the same revision, {limit.revision}", limit.revision
            )
            continue
        merged = with_limit(route, limit)
        route.clear()
        route.update(merged)
        changed = True
    return refused, changed


def _routes(content: Any) -> Iterator[dict[str, Any]]:
    """The routes of a route configuration, or of a discovery response with some."""
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
        raise TargetFailed(f"{path}: it holds no route configuration; write it as Envoy's RDS expects it")
    return content  # type: ignore[no-any-return]


def _stat(path: Path) -> os.stat_result:
    try:
        before = path.stat(follow_symlinks=False)
    except OSError as error:
        raise TargetFailed(f"{path}: can't be read: {error}") from error
    if stat.S_ISLNK(before.st_mode):
        raise TargetFailed(
            f"{path}: is a symbolic link, and replacing it would cut Envoy off from {path.resolve()}; name that file "
            "in limits.envoy_files"
        )
    return before


def _replace(path: Path, content: dict[str, Any], before: os.stat_result) -> bool:
    """Put this in place of the file as it was read. False where it is another one by now: others take no lock."""
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
    """Owner, group and mode as of the file that it replaces: Envoy runs as somebody else, and must read it."""
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
                    f"{lock}: another process holds it for over {_LOCK_SECONDS:g} s; a controller that hangs? "
                    "End it"
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
    # Without routes it refuses every request: it has only just started, or was given a file that it can't use.
    return found or LookupError("it has no routes")
