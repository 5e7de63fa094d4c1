"""Envoy's configuration for a scenario: pure functions from values to dicts.

The bootstrap is read once. Routes (with their limits) and the endpoints of each cluster are files of their
own, which Envoy watches: a file that is replaced by a rename is in force within about a second, and no
connection is drained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.demo.scenario import Scenario, Task, Version
from tidegate.schemas.gateway_settings import envoy_access_log

ROUTE_CONFIG = "demo"
PATH_PREFIX = "/v1/"
TASK_HEADER = "taskid"
READY_PATH = "/ready"
LOOPBACK = "127.0.0.1"
HEALTH_CHECK_SECONDS = 0.5
MODEL_HEADER = "x-model"
INPUT_TOKENS_HEADER = "x-input-tokens"
OUTPUT_TOKENS_TRAILER = "x-output-tokens"
TOKEN_OPERATORS = {
    "model": f"%RESP({MODEL_HEADER})%",
    "input_tokens": f"%RESP({INPUT_TOKENS_HEADER})%",
    "output_tokens": f"%TRAILER({OUTPUT_TOKENS_TRAILER})%",
}
"""How the demo's models report tokens: those of the answer in a trailer, since they are known at its end only."""
_TYPE = "type.googleapis.com/"
_RATE_LIMIT = "envoy.filters.http.local_ratelimit"
_RATE_LIMIT_TYPE = _TYPE + "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"


@dataclass(frozen=True)
class Files:
    """The paths of Envoy's files, all in one folder (absolute, since Envoy has another working directory)."""

    folder: Path

    @property
    def bootstrap(self) -> Path:
        return self.folder / "bootstrap.json"

    @property
    def routes(self) -> Path:
        return self.folder / "routes.json"

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"

    def endpoints(self, task: Task, version: Version) -> Path:
        """The file of one cluster's endpoints."""
        suffix = f".{version.subset}" if version.subset else ""
        return self.folder / "endpoints" / f"{task.name}{suffix}.json"


def bootstrap(
    scenario: Scenario, files: Files, port: int, admin_port: int, host: str = LOOPBACK
) -> dict[str, Any]:
    """The bootstrap: a listener on `host`, the admin page on loopback, and a cluster for each task's version."""
    return {
        "node": {"id": "gateway-1", "cluster": "tidegate-demo"},
        "admin": {"address": _address(LOOPBACK, admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address(host, port),
                    "filter_chains": [{"filters": [_connection_manager(files)]}],
                }
            ],
            "clusters": [
                _cluster(
                    task.cluster(version),
                    files.endpoints(task, version),
                    checked=task.qps_per_replica is not None,
                )
                for task in scenario.tasks
                for version in task.versions
            ],
        },
    }


def routes(scenario: Scenario, limits_qps: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The route table: each task by its `taskid` header, with its local rate limit where it has one.

    limits_qps: task to limit, instead of the scenario's own limits.
    """
    limits = {task.name: task.limit_qps for task in scenario.tasks if task.limit_qps}
    limits = dict(limits if limits_qps is None else limits_qps)
    return _discovery(
        [
            {
                "@type": _TYPE + "envoy.config.route.v3.RouteConfiguration",
                "name": ROUTE_CONFIG,
                "virtual_hosts": [
                    {
                        "name": "inference",
                        "domains": ["*"],
                        "routes": [_route(task, limits.get(task.name)) for task in scenario.tasks],
                    }
                ],
            }
        ]
    )


def endpoints(cluster: str, addresses: list[str]) -> dict[str, Any]:
    """One cluster's endpoints; addresses are `ip:port`."""
    hosts = [address.rsplit(":", 1) for address in addresses]
    return _discovery(
        [
            {
                "@type": _TYPE + "envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": cluster,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {"endpoint": {"address": _address(ip, int(port))}} for ip, port in hosts
                        ]
                    }
                ],
            }
        ]
    )


def write(
    scenario: Scenario,
    addresses: Mapping[str, str],
    files: Files,
    port: int,
    admin_port: int,
    host: str = LOOPBACK,
) -> None:
    """Write all of Envoy's files.

    addresses: replica name to `ip:port`; those that are absent at the start are left out. host: where clients come in.
    Raises KeyError naming a replica without an address.
    """
    for task in scenario.tasks:
        for version in task.versions:
            listed = [addresses[replica.name] for replica in version.replicas if not replica.absent]
            replace(files.endpoints(task, version), endpoints(task.cluster(version), listed))
    replace(files.routes, routes(scenario))
    replace(files.bootstrap, bootstrap(scenario, files, port, admin_port, host))


def replace(path: Path, content: dict[str, Any]) -> None:
    """Put JSON at this path in one step, so that Envoy never reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)


def _discovery(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resources": resources}


def _address(ip: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": ip, "port_value": port}}


def _watched(path: Path) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _connection_manager(files: Files) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": _TYPE
            + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "gateway",
            "codec_type": "AUTO",
            "use_remote_address": True,
            "rds": {"route_config_name": ROUTE_CONFIG, "config_source": _watched(files.routes)},
            "http_filters": [
                {
                    "name": _RATE_LIMIT,
                    "typed_config": {"@type": _RATE_LIMIT_TYPE, "stat_prefix": "no_limit"},
                },
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router"},
                },
            ],
            "access_log": [envoy_access_log(str(files.access_log), TOKEN_OPERATORS)],
        },
    }


def _cluster(name: str, endpoints_file: Path, *, checked: bool) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        # No alt_stat_name: %UPSTREAM_CLUSTER% would show it in place of the name.
        "type": "EDS",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "eds_cluster_config": {"service_name": name, "eds_config": _watched(endpoints_file)},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
            }
        },
    }
    if checked:
        interval = f"{HEALTH_CHECK_SECONDS}s"
        cluster["health_checks"] = [
            {
                "timeout": "1s",
                "interval": interval,
                "no_traffic_interval": interval,
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "http_health_check": {"path": READY_PATH},
            }
        ]
        # A removed replica gets no request, though it may still answer; neither does one that warms up.
        cluster["ignore_health_on_host_removal"] = True
        cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 0}}
    return cluster


def _route(task: Task, limit_qps: int | None) -> dict[str, Any]:
    action: dict[str, Any] = {"timeout": "30s"}
    if len(task.versions) == 1:
        action["cluster"] = task.cluster(task.versions[0])
    else:
        action["weighted_clusters"] = {
            "clusters": [
                {"name": task.cluster(version), "weight": version.weight} for version in task.versions
            ]
        }
    route: dict[str, Any] = {
        "name": task.name,
        "match": {
            "prefix": PATH_PREFIX,
            "headers": [{"name": TASK_HEADER, "string_match": {"exact": task.name}}],
        },
        "route": action,
    }
    if limit_qps:
        route["typed_per_filter_config"] = {_RATE_LIMIT: _limit(task.name, limit_qps)}
    return route


def _limit(task: str, limit_qps: int) -> dict[str, Any]:
    always = {"numerator": 100, "denominator": "HUNDRED"}
    return {
        "@type": _RATE_LIMIT_TYPE,
        "stat_prefix": task,
        "token_bucket": {
            "max_tokens": max(1, limit_qps),
            "tokens_per_fill": max(1, limit_qps),
            "fill_interval": "1s",
        },
        # Envoy's default is to enable the filter for none of the requests.
        "filter_enabled": {"default_value": always},
        "filter_enforced": {"default_value": always},
    }
