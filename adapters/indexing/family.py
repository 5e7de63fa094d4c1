"""All indices of one topic: the day of each, and the name to which its documents are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from elasticsearch import Elasticsearch as Client

from tidegate.schemas.elasticsearch import IndexContract

_DAY = re.compile(r"\d{4}\.\d\d\.\d\d")


@dataclass(frozen=True)
class FamilyIndex:
    """One index of a topic.

    name: its own. target: the name that documents are written to: its own too, unless it was built anew; then that
    name is an alias of it. day: None where the topic's index has no day.
    """

    name: str
    target: str
    day: date | None


def family(client: Client, contract: IndexContract, index_prefix: str) -> list[FamilyIndex]:
    """The indices that tidegate made of this topic, oldest day first: by their name, and that they have its alias.

    Raises ApiError, TransportError.
    """
    alias = contract.alias(index_prefix)
    known = client.indices.get_alias(index=contract.pattern(index_prefix), ignore_unavailable=True).body
    found: list[FamilyIndex] = []
    for name, info in known.items():
        if contract.time_field is None:
            found.append(FamilyIndex(name, alias, None))
        elif alias in info["aliases"]:
            found += [
                FamilyIndex(name, target, day)
                for target in (name, *info["aliases"])
                if (day := _day_of(target, alias)) is not None
            ]
    return sorted(found, key=lambda one: (one.target, one.name))


def _day_of(name: str, alias: str) -> date | None:
    text = name.removeprefix(f"{alias}-")
    if text == name or _DAY.fullmatch(text) is None:
        return None
    try:
        return datetime.strptime(text, "%Y.%m.%d").date()  # noqa: DTZ007 (a day has no zone)
    except ValueError:
        return None
