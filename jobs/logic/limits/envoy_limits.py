"""A task's limit as Envoy's local rate limit on a route: pure functions from values to configuration, and back.

The route itself holds its task and the revision of its limit (`metadata.filter_metadata.tidegate`), so that a reader
needs nothing else to know what is in force, and an outdated writer can be rejected.

A client named by `x-client-id` has a bucket of its own beside the task's: Envoy takes a token of both, so that one
client can't use up the task and all together can't exceed it. The client sets the header itself; a gateway that
authenticates its clients should set it instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.settings.limits import Limits

FILTER = "envoy.filters.http.local_ratelimit"
"""The HTTP filter's name in the listener: the key of a route's own configuration of it."""
FILTER_TYPE = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_OWNED = frozenset(
    {
        "@type", "stat_prefix", "token_bucket", "filter_enabled", "filter_enforced", "descriptors", "rate_limits",
        "max_dynamic_descriptors", "status", "enable_x_ratelimit_headers", "rate_limited_as_resource_exhausted",
        # They change what the bucket admits: a limit with one of them is not the limit that was decided.
        "always_consume_default_token_bucket", "local_cluster_rate_limit",
        "local_rate_limit_per_downstream_connection", "stage",
    }
)  # fmt: skip
"""The fields of the filter that tidegate sets or removes. Any other is left as it is, and is no drift."""
_STATUS_NAMES = {"Forbidden": 403, "TooManyRequests": 429, "ServiceUnavailable": 503}
"""Envoy's names of the statuses that can be set, as its config_dump writes them."""
_DEFAULT_STATUS = 429
_X_RATELIMIT_HEADERS = "DRAFT_VERSION_03"
MARKS = "tidegate"
CLIENT_HEADER = "x-client-id"
_CLIENT = "client"
_MOST_UNNAMED_CLIENTS = 1000
"""Envoy keeps buckets for this number of unnamed clients of a route, and evicts the least recently used."""


class TaskKey(NamedTuple):
    """A task's name: its department and its own."""

    department: str
    task: str

    def __str__(self) -> str:
        return f"{self.department}/{self.task}"


@dataclass(frozen=True)
class Limit:
    """The limit of one task at one gateway.

    route: the name of the task's route. revision: of the push that set it. client: the bucket of each client without
    one of its own; None: such clients share the task's bucket. clients: the buckets of named clients.
    """

    key: TaskKey
    route: str
    revision: int
    bucket: TokenBucket
    client: TokenBucket | None = None
    clients: Mapping[str, TokenBucket] = field(default_factory=dict)


@dataclass(frozen=True)
class LimitedAnswer:
    """How Envoy answers limited requests: a setting of whoever writes the limits.

    status and body: of HTTP requests; the body is of the listener, not of a route. x_ratelimit_headers: whether every
    response holds the `x-ratelimit` headers. grpc_resource_exhausted: whether gRPC calls get RESOURCE_EXHAUSTED (8)
    instead of Envoy's UNAVAILABLE (14), which clients retry. Envoy tells gRPC calls by their content type.
    """

    status: int = _DEFAULT_STATUS
    body: str = ""
    x_ratelimit_headers: bool = False
    grpc_resource_exhausted: bool = True

    @classmethod
    def of(cls, limits: Limits) -> LimitedAnswer:
        """The answer of the settings."""
        return cls(
            limits.answer_status,
            limits.answer_body,
            limits.answer_x_ratelimit_headers,
            limits.grpc_resource_exhausted,
        )


ENVOYS_DEFAULTS_BUT_GRPC = LimitedAnswer()
"""Envoy's own answer, except that gRPC calls get RESOURCE_EXHAUSTED: the settings' defaults."""


def local_reply_config(answer: LimitedAnswer) -> dict[str, Any]:
    """The connection manager's `local_reply_config` that gives limited requests the answer's body."""
    return {
        "mappers": [
            {
                "filter": {"response_flag_filter": {"flags": ["RL"]}},
                "body": {"inline_string": answer.body},
                "body_format_override": {
                    "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
                    "content_type": "application/json" if _is_json(answer.body) else "text/plain",
                },
            }
        ]
    }


def filter_without_limit() -> dict[str, Any]:
    """The listener's HTTP filter, which limits nothing until a route configures it."""
    return {"name": FILTER, "typed_config": {"@type": FILTER_TYPE, "stat_prefix": "tidegate_no_limit"}}


def route_parts(
    limit: Limit, answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC, held: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parts of a route that hold its limit, in the shape of Envoy's `config.route.v3.Route`.

    held: the route as it is now, whose filter may have fields that tidegate doesn't own; they are kept.
    """
    parts: dict[str, Any] = {
        "metadata": {
            "filter_metadata": {
                MARKS: {
                    "department": limit.key.department,
                    "task": limit.key.task,
                    "revision": limit.revision,
                }
            }
        },
        "typed_per_filter_config": {FILTER: foreign_fields(held or {}) | _filter(limit, answer)},
    }
    return parts


def with_limit(
    route: Mapping[str, Any], limit: Limit, answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC
) -> dict[str, Any]:
    """The route with this limit instead of its own. The rest of the route is unchanged."""
    parts = route_parts(limit, answer, route)
    metadata = dict(route.get("metadata") or {})
    metadata["filter_metadata"] = (metadata.get("filter_metadata") or {}) | parts["metadata"][
        "filter_metadata"
    ]
    filters = (route.get("typed_per_filter_config") or {}) | parts["typed_per_filter_config"]
    return dict(route) | {"metadata": metadata, "typed_per_filter_config": filters}


def foreign_fields(route: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a route's limit filter that tidegate doesn't own."""
    config = (route.get("typed_per_filter_config") or {}).get(FILTER)
    if not isinstance(config, Mapping) or config.get("@type") != FILTER_TYPE:
        return {}
    return {name: value for name, value in config.items() if name not in _OWNED}


def read_route(route: Mapping[str, Any], answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC) -> Limit | None:
    """The limit that a route holds, from a file or from Envoy's `config_dump`.

    None where it has no limit of tidegate's, or one whose configuration is no longer valid: also one with another
    answer than this, or with a field that changes what the bucket admits.
    """
    marks = marks_of(route)
    if marks is None:
        return None
    key, revision = marks
    try:
        config = route["typed_per_filter_config"][FILTER]
        if not (_always(config["filter_enabled"]) and _always(config["filter_enforced"])):
            return None
        buckets = dict(_client_buckets(config))
        limit = Limit(
            key=key,
            route=str(route.get("name") or ""),
            revision=revision,
            bucket=_read_bucket(config["token_bucket"]),
            client=buckets.pop(None, None),
            clients={name: bucket for name, bucket in buckets.items() if name is not None},
        )
        same_answer = _read_answer(config) == replace(answer, body="")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    wanted = _filter(limit, answer)
    same_actions = config.get("rate_limits", []) == wanted.get("rate_limits", [])
    return limit if same_actions and same_answer and _admits_the_bucket(config) else None


def marks_of(route: Mapping[str, Any]) -> tuple[TaskKey, int] | None:
    """A route's task and revision, even where its limit is no longer valid; None for a route without them."""
    try:
        marks = route["metadata"]["filter_metadata"][MARKS]
        return TaskKey(str(marks["department"]), str(marks["task"])), int(marks["revision"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def routes_of(route_configuration: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All routes of an RDS route configuration, to be read or changed in place."""
    for host in route_configuration.get("virtual_hosts") or []:
        yield from host.get("routes") or []


def _filter(limit: Limit, answer: LimitedAnswer) -> dict[str, Any]:
    always = {"numerator": 100, "denominator": "HUNDRED"}
    config: dict[str, Any] = {
        "@type": FILTER_TYPE,
        "stat_prefix": f"tidegate_{limit.key.task}",
        "token_bucket": _bucket(limit.bucket),
        # Envoy's default is to enable the filter for none of the requests.
        "filter_enabled": {"default_value": always},
        "filter_enforced": {"default_value": always},
    }
    if answer.status != _DEFAULT_STATUS:
        config["status"] = {"code": answer.status}
    if answer.x_ratelimit_headers:
        config["enable_x_ratelimit_headers"] = _X_RATELIMIT_HEADERS
    if answer.grpc_resource_exhausted:
        config["rate_limited_as_resource_exhausted"] = True
    if limit.client is None and not limit.clients:
        return config
    descriptors = [
        {"entries": [{"key": _CLIENT, "value": name}], "token_bucket": _bucket(bucket)}
        for name, bucket in sorted(limit.clients.items())
    ]
    if limit.client is not None:
        descriptors.append({"entries": [{"key": _CLIENT}], "token_bucket": _bucket(limit.client)})
        config["max_dynamic_descriptors"] = _MOST_UNNAMED_CLIENTS
    action = {"request_headers": {"header_name": CLIENT_HEADER, "descriptor_key": _CLIENT}}
    return config | {"descriptors": descriptors, "rate_limits": [{"actions": [action]}]}


def _read_answer(config: Mapping[str, Any]) -> LimitedAnswer:
    """The answer of a filter, without a body. Raises AttributeError for a status of another form."""
    code = (config.get("status") or {}).get("code", _DEFAULT_STATUS)
    return LimitedAnswer(
        status=_STATUS_NAMES.get(code, code),
        x_ratelimit_headers=config.get("enable_x_ratelimit_headers") in (_X_RATELIMIT_HEADERS, 1),
        grpc_resource_exhausted=config.get("rate_limited_as_resource_exhausted", False) is True,
    )


def _admits_the_bucket(config: Mapping[str, Any]) -> bool:
    """Whether no field changes what the bucket admits: per connection, per cluster, or beside the clients' buckets."""
    return (
        not config.get("local_rate_limit_per_downstream_connection")
        and config.get("local_cluster_rate_limit") is None
        and config.get("always_consume_default_token_bucket") in (None, True)
        and not config.get("stage")
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _client_buckets(config: Mapping[str, Any]) -> Iterator[tuple[str | None, TokenBucket]]:
    for descriptor in config.get("descriptors") or []:
        (entry,) = descriptor["entries"]
        yield entry.get("value") or None, _read_bucket(descriptor["token_bucket"])


def _bucket(bucket: TokenBucket) -> dict[str, Any]:
    return {
        "max_tokens": bucket.max_tokens,
        "tokens_per_fill": bucket.tokens_per_fill,
        "fill_interval": f"{bucket.fill_interval_ms / 1000:.3f}s",
    }


def _read_bucket(config: Mapping[str, Any]) -> TokenBucket:
    interval = str(config["fill_interval"])
    ms = float(interval.removesuffix("s")) * 1000
    if not (interval.endswith("s") and math.isfinite(ms) and ms > 0):
        raise ValueError(f"fill_interval: {interval!r} is not a valid Envoy duration")
    # Envoy's default is one token a fill.
    return TokenBucket(int(config["max_tokens"]), int(config.get("tokens_per_fill", 1)), round(ms))


def _always(part: Mapping[str, Any]) -> bool:
    fraction = part["default_value"]
    return (
        not part.get("runtime_key")
        and fraction.get("numerator") == 100
        and fraction.get("denominator", "HUNDRED") == "HUNDRED"
    )
