"""YAML files that people edit: read strictly, each error reported with its place."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError


class NotYaml(ValueError):
    """The text is not valid YAML; the message holds the place."""


def parse(text: str) -> Any:
    """The content of the text. Raises NotYaml."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:
        # Beside its own errors, PyYAML passes on what a tag's constructor raises: a date that is none, `!!int ""`.
        raise NotYaml(str(error)) from error


def explain(error: ValidationError) -> Iterator[str]:
    """Each thing that is wrong: its place, what is wanted, and what is there."""
    for item in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in item["loc"] if part != "[key]") or "the whole"
        yield f"{place}: {item['msg']} (is {_shown(item['input'])})"


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python prints no whole number of over 4300 digits
        return f"a {type(value).__name__} too long to show"


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake, and not silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is no text; write it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
