"""Every setting with its meaning, its value and where the value comes from. Secrets are masked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from tidegate.schemas.settings import Layer, Settings

MASK = "********"
"""Stands for a secret, whatever its length."""

_UNITS = {
    "_seconds": "s",
    "_minutes": "min",
    "_days": "days",
    "_ms": "ms",
    "_mib": "MiB",
    "_bytes": "bytes",
}
_URL_USER = re.compile(r"(?<=://)\S*@")
_URL_PATH = re.compile(r"(?<=://)(?:\S*@)?([^/?#\s]*).*")
_URL_SECRET = re.compile(
    r"(?i)([?&][^=&\s]*(?:token|secret|password|passwd|key|sig|signature|auth)[^=&\s]*=)[^&#\s]+"
)
_SECRET_OPTION = re.compile(
    r"(?i)password|secret|token|account\.key|api-?key|access\.?-?key|service-key|auth-params|basic-auth|jaas\.config|http-headers"
)
"""Flink's own list of options whose values it hides (GlobalConfiguration), and S3's access keys."""


@dataclass(frozen=True)
class Setting:
    """What can be set. allowed: the type and the range, as text; default: as JSON has it.

    secret_path: a URL whose path is a secret, as of many webhooks.
    """

    name: str
    allowed: str
    default: Any
    meaning: str
    secret: bool
    secret_path: bool

    @property
    def group(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]

    @property
    def environment(self) -> str:
        """The environment variable that sets it."""
        return environment_variable(self.name)


@dataclass(frozen=True)
class Source:
    """Where a value, or a part of a table, comes from. at: the file, the variable or the option."""

    kind: str
    at: str | None = None

    def __str__(self) -> str:
        return self.kind if self.at is None else f"{self.kind} {self.at}"


DEFAULT = Source("default")


@dataclass(frozen=True)
class SettingValue:
    """A setting as it is now. value: masked, as JSON has it; None where it is not set."""

    setting: Setting
    value: Any
    changed: bool
    sources: tuple[Source, ...]

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        one = self.setting
        return {
            "name": one.name,
            "value": self.value,
            "default": one.default,
            "changed": self.changed,
            "secret": one.secret,
            "is_set": self.value is not None,
            "sources": [asdict(source) for source in self.sources],
            "environment": one.environment,
            "allowed": one.allowed,
            "meaning": one.meaning,
        }


def environment_variable(name: str) -> str:
    """TIDEGATE_GROUP__NAME of `group.name`."""
    config = Settings.model_config
    return (config["env_prefix"] + name.replace(".", config["env_nested_delimiter"] or "")).upper()


def groups() -> dict[str, str]:
    """Every group's name, and what its settings govern."""
    return {
        name: (_model_of(name).__doc__ or "").strip().partition("\n")[0] for name in Settings.model_fields
    }


def all_settings() -> list[Setting]:
    """Every setting, in the order of the models."""
    return [setting for group in Settings.model_fields for setting in _settings_of(group)]


def current(
    settings: Settings, layers: Sequence[Layer], environ: Mapping[str, str] = os.environ
) -> list[SettingValue]:
    """Every setting as it is. layers: those that the settings were loaded from, the strongest first."""
    values = settings.model_dump(mode="json")
    found = []
    for setting in all_settings():
        group, _, name = setting.name.partition(".")
        value = values[group][name]
        sources = _sources(setting.name, layers, environ)
        if setting.secret and value is None and (file := values[group].get(f"{name}_file")):
            value = MASK
            sources = (Source("secret file", file),)
        found.append(
            SettingValue(
                setting,
                masked(setting, value),
                changed=value != setting.default,
                sources=sources,
            )
        )
    return found


def masked(setting: Setting, value: Any) -> Any:
    """The value without what nobody may read: secrets, and what a URL or an option has of them."""
    if value is None:
        return None
    if setting.secret:
        return MASK
    if setting.secret_path and isinstance(value, str):
        return _URL_PATH.sub(lambda url: f"{url.group(1)}/{MASK}", value)
    return _without_secrets(value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return _URL_SECRET.sub(rf"\g<1>{MASK}", _URL_USER.sub(f"{MASK}@", value))
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    if isinstance(value, dict):
        return {
            key: MASK if _SECRET_OPTION.search(key) else _without_secrets(one) for key, one in value.items()
        }
    return value


def _model_of(group: str) -> type[BaseModel]:
    model = Settings.model_fields[group].annotation
    assert isinstance(model, type)  # noqa: S101 - for the type checker
    return model


def _settings_of(group: str) -> Iterator[Setting]:
    model = _model_of(group)
    properties = model.model_json_schema()["properties"]
    defaults = model().model_dump(mode="json")
    for name, field in model.model_fields.items():
        schema = properties[name]
        yield Setting(
            f"{group}.{name}",
            _allowed(schema) + _unit(name),
            defaults[name],
            field.description or "",
            secret=_without_null(schema).get("format") == "password",
            secret_path=bool(schema.get("secret_path")),
        )


def _sources(name: str, layers: Sequence[Layer], environ: Mapping[str, str]) -> tuple[Source, ...]:
    """The layers that a value comes from: of a table all that have a part of it, of anything else the strongest."""
    group, _, field = name.partition(".")
    found: list[Source] = []
    seen: set[tuple[str, ...]] = set()
    for layer in layers:
        in_group = layer.values.get(group)
        if not isinstance(in_group, Mapping) or field not in in_group:
            continue
        value = in_group[field]
        if not isinstance(value, Mapping):
            # It hides every weaker layer's value, and a stronger layer's table hides it.
            return tuple(found) or (_source(layer, name, environ),)
        keys = set(_leaves(value)) - seen
        if keys:
            found.append(_source(layer, name, environ))
            seen |= keys
    return tuple(found) or (DEFAULT,)


def _leaves(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _source(layer: Layer, name: str, environ: Mapping[str, str]) -> Source:
    if layer.source == "command line":
        return Source(layer.source, f"--set {name}")
    if layer.source == "environment":
        return Source(layer.source, ", ".join(_variables(name, environ)))
    return Source(layer.source, str(layer.path))


def _variables(name: str, environ: Mapping[str, str]) -> list[str]:
    """The variables that are set and give this setting: its own, those of a table's parts, or its group's as JSON."""
    own = environment_variable(name)
    exact = [variable for variable in environ if variable.upper() == own]
    parts = sorted(variable for variable in environ if variable.upper().startswith(f"{own}__"))
    group = environment_variable(name.partition(".")[0])
    return [*exact, *parts] or [variable for variable in environ if variable.upper() == group]


def _allowed(schema: Mapping[str, Any]) -> str:
    """A type and its range in words."""
    schema = _without_null(schema)
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    kind = schema["type"]
    if kind == "array":
        return f"list of {_plural(schema['items'])}"
    if kind == "object":
        return f"table of {_plural(schema['additionalProperties'])}"
    if kind == "string":
        return {"path": "path", "password": "secret"}.get(schema.get("format", ""), "text")
    if kind == "boolean":
        return "`true` or `false`"
    return f"{kind}{_range(schema)}"


def _plural(schema: Mapping[str, Any]) -> str:
    if schema["type"] == "array":
        return f"lists of {_plural(schema['items'])}"
    one = {"string": {"path": "paths"}.get(schema.get("format", ""), "texts")}.get(schema["type"])
    return one or f"{schema['type']}s{_range(schema)}"


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        parts.append(f"{low} to {high}")
    else:
        parts += [f"{sign} {bound}" for sign, bound in ((">=", low), (">", above)) if bound is not None]
        parts += [f"{sign} {bound}" for sign, bound in (("<=", high), ("<", below)) if bound is not None]
    if "multipleOf" in schema:
        parts.append(f"a multiple of {schema['multipleOf']}")
    return " " + ", ".join(parts) if parts else ""


def _unit(name: str) -> str:
    return next((f", in {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an optional setting may be where it is set."""
    kinds = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return kinds[0] if kinds else schema
