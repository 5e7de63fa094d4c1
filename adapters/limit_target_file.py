"""The target envoy-file: limits in a route (RDS) file that Envoy watches, replaced by an atomic rename.

The file is the platform's own: its routes stay as they are, but for the limit and tidegate's marks of those that the
catalog names. JSON or YAML by its suffix (YAML loses its comments). Writers of one file take turns by a lock beside it.

In force is what Envoy itself says (`config_dump` of each admin page that is set); without admin pages, what the file
says. An Envoy that doesn't answer enforces nothing that anybody sees, so the others decide; when none answers, nothing
is known.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import yaml
from tidegate.adapters.limit_targets import Refused, TargetFailed
from tidegate.jobs.logic.envoy_limits import Limit, TaskKey, marks_of, read_route, routes_of, with_limit
from tidegate.schemas.catalog import Gateway

_ADMIN_SECONDS = 2.0


class EnvoyFileTarget:
    """Route files by gateway, and the admin pages (`host:port`) of the Envoys that read them."""

    name = "envoy-file"

    def __init__(self, files: Mapping[str, Path], admins: Mapping[str, tuple[str, ...]]) -> None:
        self._files = files
        self._admins = admins

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
        with _locked(path):
            content = _content(path)
            refused, changed = put(content, limits)
            if changed:
                _replace(path, content)
        return refused

    def _file(self, gateway: str) -> Path:
        try:
            return self._files[gateway]
        except KeyError:
            raise TargetFailed(
                f"gateway {gateway!r} has no route file; name it in limits.envoy_files"
            ) from None

    def _said_by_envoys(self, gateway: str) -> Iterator[Mapping[TaskKey, Limit]]:
        admins = self._admins[gateway]
        with ThreadPoolExecutor(len(admins)) as threads:
            answers = list(threads.map(_routes_in_force, admins))
        said = [answer for answer in answers if not isinstance(answer, Exception)]
        if not said:
            raise TargetFailed(
                f"none of gateway {gateway!r}'s Envoys answers at {', '.join(admins)} ({answers[0]}); "
                "see limits.envoy_admins"
            )
        return (limits_of(routes) for routes in said)


def limits_of(route_configurations: Iterable[Mapping[str, Any]]) -> dict[TaskKey, Limit]:
    """The limits with our marks in these route configurations."""
    found = (read_route(route) for one in route_configurations for route in _routes(one))
    return {limit.key: limit for limit in found if limit is not None}


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
    return (
        route
        for resource in content.get("resources") or [content]
        for route in routes_of(resource)
        if isinstance(route, dict)
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        content = orjson.loads(raw) if _is_json(path) else yaml.safe_load(raw)
    except (OSError, orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise TargetFailed(f"{path}: can't be read: {error}") from error
    if not isinstance(content, dict):
        raise TargetFailed(f"{path}: no route configuration in it")
    return content


def _replace(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(content, indent=1) if _is_json(path) else yaml.safe_dump(content, sort_keys=False)
    try:
        mode = path.stat().st_mode & 0o777
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise TargetFailed(f"{path}: can't be replaced: {error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        file = path.with_name(f".{path.name}.lock").open("w")
    except OSError as error:
        raise TargetFailed(f"{path}: its folder can't be written: {error}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_json(path: Path) -> bool:
    return path.suffix == ".json"


def _routes_in_force(admin: str) -> list[dict[str, Any]] | Exception:
    url = f"http://{admin}/config_dump?resource=dynamic_route_configs"
    try:
        with urlopen(url, timeout=_ADMIN_SECONDS) as answer:
            dump = orjson.loads(answer.read())
        return [entry["route_config"] for entry in dump.get("configs", []) if "route_config" in entry]
    except (OSError, HTTPException, ValueError, AttributeError, KeyError, TypeError) as error:
        return error
