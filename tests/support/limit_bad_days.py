"""Steps and readings that the tests of the limit controller's bad days share."""

from __future__ import annotations

import json
from typing import Any

from tests.support.limit_world import Controller, World


def ready(world: World, replicas: int = 4, gateways: int = 1) -> None:
    world.publish_counts(gateways, replicas)
    for task in world.tasks:
        world.change(replicas, task)


def started(world: World, qps: float = 40) -> Controller:
    """A controller whose first limit is in force."""
    ready(world)
    controller = world.controller()
    world.until_applied(qps)
    return controller


def states(world: World) -> list[tuple[str, int]]:
    return [(row.state, row.revision) for row in world.rows()]


def routes(world: World) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(world.routes.read_text())
    return content


def first_route(content: dict[str, Any]) -> dict[str, Any]:
    route: dict[str, Any] = content["resources"][0]["virtual_hosts"][0]["routes"][0]
    return route
