"""The identity of a series: its whole label set, apart from the labels that only name its scraper.

A series' text in keyed state has three parts: what it measures within its pod (a container, an interface, a GPU or a
MIG instance of one), a digest of its own labels, and one of its scraper's. Those of one subject and different
digests are an old and a new container, or the cores of one container; those that differ in the scraper only are copies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

_SEPARATOR = "\x1f"
_TARGET_LABELS = ("namespace", "pod", "container")


@dataclass(frozen=True)
class Identity:
    """subject: the container, interface or GPU. own, scraper: digests of labels; empty in states of release 0.2."""

    subject: str
    own: str
    scraper: str


def text_of(subject: str, labels: Mapping[Any, Any], scraper_labels: Collection[str]) -> str:
    """The text of a series. labels: all of them. scraper_labels: the names of those that name the scraper."""
    scraper = set(scraper_labels)
    if labels.get("exported_pod"):  # then these are the exporter's own, which restarts on its own
        scraper |= {name for name in _TARGET_LABELS if f"exported_{name}" in labels}
    own = {name: value for name, value in labels.items() if name not in scraper and name != "__name__"}
    copy = {name: value for name, value in labels.items() if name in scraper}
    return _SEPARATOR.join((subject, _digest(own), _digest(copy)))


@lru_cache(maxsize=100_000)
def identity_of(text: str) -> Identity:
    """The identity that a series' text holds."""
    subject, *digests = text.rsplit(_SEPARATOR, 2)
    return Identity(subject, *digests) if len(digests) == 2 else Identity(text, "", "")


def _digest(labels: Mapping[Any, Any]) -> str:
    if not labels:
        return ""
    return blake2b(
        orjson.dumps(labels, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS), digest_size=8
    ).hexdigest()
