"""Renders settings: two lines each for a terminal, and docs/settings.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from tidegate.schemas.settings.listing import Setting, SettingValue

_PAGE = """\
# Settings

Made by `make docs` from the models in `schemas/`: don't edit it. `tidegate settings` prints the same settings with
their current values and where each value comes from.

Sources, the weakest first: default, the addresses of the running local stack (`stack.json`), `tidegate.toml` (or
`--config FILE`), the environment, `--set`. A table, such as `elasticsearch.keep_days`, is merged from all of them; of
anything else the strongest source's value is taken.

| source | how `kafka.topic_prefix` is set there |
|---|---|
| `tidegate.toml` | `topic_prefix = "test."` below `[kafka]` |
| environment | `TIDEGATE_KAFKA__TOPIC_PREFIX=test.` |
| command line | `tidegate --set kafka.topic_prefix=test. COMMAND` |

Lists and tables are JSON in the environment and after `--set`. A secret is set in the environment, or as a file whose
path is the setting of the same name with `_file`; `tidegate.toml` must not hold one.
"""


def value_text(value: Any) -> str:
    """A value as TOML and JSON write it."""
    if value is None:
        return "not set"
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, ensure_ascii=False)


def lines(values: Iterable[SettingValue], groups: dict[str, str]) -> Iterator[Text]:
    """Each group's heading; each setting with value and source; below it the meaning and, if changed, the default."""
    from rich.text import Text

    for number, (group, members) in enumerate(groupby(values, key=lambda one: one.setting.group)):
        if number:
            yield Text()
        yield Text.assemble((f"[{group}]", "bold"), f"  {groups[group]}")
        for one in members:
            sources = "; ".join(str(source) for source in one.sources)
            yield Text.assemble(
                one.setting.name,
                " = ",
                (value_text(one.value), "bold green" if one.changed else ""),
                ("  <- ", "dim"),
                (sources, "cyan" if one.changed else "dim"),
            )
            default = f"; default: {value_text(one.setting.default)}" if one.changed else ""
            yield Text(
                f"    {one.setting.meaning} ({one.setting.allowed.replace('`', '')}{default})", style="dim"
            )


def markdown(settings: Sequence[Setting], groups: dict[str, str]) -> str:
    """A page of what can be set: a table for each group. The same on every machine."""
    parts = [_PAGE]
    for group, members in groupby(settings, key=lambda one: one.group):
        parts.append(
            f"\n## {group}\n\n{groups[group]}\n\n| setting | value | default | meaning |\n|---|---|---|---|\n"
        )
        for one in members:
            default = "" if one.default is None else f"`{value_text(one.default)}`"
            cells = (f"`{one.name}`", one.allowed, default, one.meaning)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)
