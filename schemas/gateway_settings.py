"""Ready-made settings that make an Envoy or Istio gateway write the access log that tidegate reads.

`python -m tidegate.schemas.gateway_settings DIR` writes the files of `deploy/envoy` and `deploy/istio`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT

LOG_FILE = "/var/log/tidegate/access.log"
"""Where the ready-made settings put the log: a volume that the gateway and the shipper share."""

PROVIDER = "tidegate-access-log"

RECEIVER_CLUSTER = "tidegate-receive"
"""The name of Envoy's cluster that leads to `tidegate receive`."""

_NOT_IN_ENTRIES = tuple(
    key
    for key, operator in ACCESS_LOG_FORMAT.items()
    if operator.startswith(
        ("%RESPONSE_FLAGS", "%ENVIRONMENT", "%GRPC_STATUS", "%RESPONSE_DURATION", "%REQUESTED_SERVER")
    )
)
"""Keys for which the gRPC access log service has no field, or none with the same value."""

_NOTE = "# Made by `python -m tidegate.schemas.gateway_settings deploy` from schemas/access_log.py.\n"


def envoy_access_log(path: str = LOG_FILE, operators: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One entry of `access_log` of Envoy's HTTP connection manager, as a dict for JSON or YAML.

    operators: Envoy's command operator by key, in place of the format's own.
    """
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"json_format": ACCESS_LOG_FORMAT | dict(operators or {})},
        },
    }


def envoy_als(cluster: str) -> dict[str, Any]:
    """The entry that sends to `tidegate receive` by the gRPC access log service. cluster: Envoy's for the receiver."""
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": PROVIDER,
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
                "custom_tags": [{"tag": key, "value": ACCESS_LOG_FORMAT[key]} for key in _NOT_IN_ENTRIES],
            },
            "additional_request_headers_to_log": _arguments("REQ"),
            "additional_response_headers_to_log": _arguments("RESP"),
        },
    }


def envoy_otlp(cluster: str) -> dict[str, Any]:
    """The entry that sends to `tidegate receive` by OTLP. cluster: Envoy's for the receiver."""
    return {
        "name": "envoy.access_loggers.open_telemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3."
            "OpenTelemetryAccessLogConfig",
            "log_name": PROVIDER,
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
            "attributes": {
                "values": [
                    {"key": key, "value": {"string_value": operator}}
                    for key, operator in ACCESS_LOG_FORMAT.items()
                ]
            },
        },
    }


def _arguments(operator: str) -> list[str]:
    """The headers that the format reads by this operator and that are not pseudo headers."""
    found = (re.fullmatch(rf"%{operator}\(([A-Z0-9-]+)\)%", value) for value in ACCESS_LOG_FORMAT.values())
    return [match[1].lower() for match in found if match]


def envoy_snippet() -> str:
    """YAML of `access_log`, to put into the HTTP connection manager of a plain Envoy."""
    entry = envoy_access_log()
    lines = [
        "access_log:",
        f"- name: {entry['name']}",
        "  typed_config:",
        f'    "@type": {entry["typed_config"]["@type"]}',
        f"    path: {entry['typed_config']['path']}",
        "    log_format:",
        "      json_format:",
        *_labels(8),
    ]
    return _NOTE + "\n".join(lines) + "\n"


def istio_provider() -> str:
    """YAML of `meshConfig` with a provider that nothing uses until a Telemetry resource names it."""
    lines = [
        "meshConfig:",
        "  extensionProviders:",
        f"  - name: {PROVIDER}",
        "    envoyFileAccessLog:",
        f"      path: {LOG_FILE}",
        "      logFormat:",
        "        labels:",
        *_labels(10),
    ]
    return _NOTE + "\n".join(lines) + "\n"


def istio_otlp_provider() -> dict[str, Any]:
    """`meshConfig` with a provider that sends to `tidegate receive` by OTLP."""
    service = {
        "service": "tidegate-receive.tidegate.svc.cluster.local",
        "port": 4317,
        "logFormat": {"labels": dict(ACCESS_LOG_FORMAT)},
    }
    return {"meshConfig": {"extensionProviders": [{"name": PROVIDER, "envoyOtelAls": service}]}}


def istio_telemetry() -> str:
    """YAML of the Telemetry resource that turns the provider on for the ingress gateways alone."""
    return (
        _NOTE
        + f"""apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata:
  name: {PROVIDER}
  namespace: istio-system
spec:
  selector:
    matchLabels:
      istio: ingressgateway
  accessLogging:
  - providers:
    - name: {PROVIDER}
"""
    )


def istio_mesh_config() -> str:
    """YAML of `meshConfig` for the whole mesh: every gateway and every sidecar writes the log."""
    return (
        _NOTE
        + f"""meshConfig:
  accessLogFile: {LOG_FILE}
  accessLogEncoding: JSON
  accessLogFormat: |
"""
        + "\n".join("    " + line for line in json.dumps(ACCESS_LOG_FORMAT, indent=2).splitlines())
        + "\n"
    )


def files() -> dict[str, str]:
    """Every ready-made file's path below `deploy/`, and its content."""
    return {
        "envoy/access-log.yaml": envoy_snippet(),
        "envoy/access-log-als.yaml": _yaml({"access_log": [envoy_als(RECEIVER_CLUSTER)]}),
        "envoy/access-log-otlp.yaml": _yaml({"access_log": [envoy_otlp(RECEIVER_CLUSTER)]}),
        "istio/provider-otlp.yaml": _yaml(istio_otlp_provider()),
        "istio/provider.yaml": istio_provider(),
        "istio/telemetry.yaml": istio_telemetry(),
        "istio/mesh-config.yaml": istio_mesh_config(),
    }


def write(folder: Path) -> list[Path]:
    """Write all files below this folder; returns their paths."""
    written = []
    for name, content in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        written.append(path)
    return written


def _yaml(content: dict[str, Any]) -> str:
    return _NOTE + yaml.safe_dump(content, sort_keys=False, width=200)


def _labels(indent: int) -> list[str]:
    return [f"{' ' * indent}{key}: {json.dumps(value)}" for key, value in ACCESS_LOG_FORMAT.items()]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tidegate.schemas.gateway_settings DIR")
    write(Path(sys.argv[1]))
