"""What tidegate's Istio objects have in common: kinds, the label of ownership, durations.

An object without the label has another owner, whatever its name is, and is never changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OWNER_LABEL = "app.kubernetes.io/managed-by"
OWNER = "tidegate"


@dataclass(frozen=True)
class Kind:
    """A kind of the Kubernetes API, with the version in use."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """The object's `apiVersion`."""
        return f"{self.group}/{self.version}"


ENVOY_FILTER = Kind("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters")
VIRTUAL_SERVICE = Kind("networking.istio.io", "v1", "VirtualService", "virtualservices")
DESTINATION_RULE = Kind("networking.istio.io", "v1", "DestinationRule", "destinationrules")


def owned_object(
    kind: Kind,
    namespace: str,
    name: str,
    spec: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """An object with tidegate's label, as it is applied."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": {OWNER_LABEL: OWNER}}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata,
        "spec": dict(spec),
    }


def is_ours(live: Mapping[str, Any]) -> bool:
    """Whether an object has tidegate's label."""
    return ((live.get("metadata") or {}).get("labels") or {}).get(OWNER_LABEL) == OWNER


def replacing(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it is applied over the live one, on the condition that uid and resourceVersion are unchanged."""
    seen = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    return dict(wanted) | {"metadata": wanted["metadata"] | seen}


def duration(ms: int) -> str:
    """Milliseconds in Istio's form: `1.5s`."""
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"


_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def duration_ms(text: object) -> int:
    """The milliseconds of a duration in any of Istio's forms, such as `1m30s`.

    Raises ValueError for anything else.
    """
    parts = _PART.findall(text) if isinstance(text, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a valid duration, such as 1.5s or 1m30s")
    return round(sum(float(number) * _MS[unit] for number, unit in parts))
