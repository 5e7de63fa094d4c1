"""The documents name what is there: paths, links, topics, jobs, and the recipes' tables that have two sides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from tests.support.paths import ROOT
from tidegate.jobs.logic.alerts import evaluation
from tidegate.schemas import topics
from tidegate.schemas.alert_rules import Op

ARCHITECTURE = ROOT / "docs" / "architecture.md"
WITH_PATHS = (ROOT / "CONTRIBUTING.md", ARCHITECTURE)
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", ".github/*.md", "docs/*.md", "docs/decisions/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
)
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))

_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_CODE = re.compile(r"`([^`\s]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def tops() -> set[str]:
    """The names in the tree's top folder."""
    return {path.name for path in ROOT.iterdir()}


def paths_in(text: str, known: set[str]) -> Iterator[str]:
    """What stands in code marks and begins with a name of the top folder; NAME and * are any name."""
    for found in _CODE.findall(_FENCE.sub("", text)):
        first, slash, _ = found.partition("/")
        if first in known and (slash or "." in first):
            yield found.replace("NAME", "*")


def folders_of_the_tree(text: str) -> Iterator[str]:
    """The folders of the indented tree in the architecture, by their whole path."""
    block = next(fence for fence in _FENCE.findall(text) if "\nschemas/" in fence)
    above: list[str] = []
    for line in block.splitlines()[1:-1]:
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], line.split()[0].rstrip("/")]
        yield "/".join(above)


def links_in(path: Path) -> Iterator[str]:
    """Relative links, without their anchors."""
    for link in _LINK.findall(_FENCE.sub("", path.read_text())):
        target = link.partition("#")[0]
        if target and "://" not in target and not target.startswith("mailto:"):
            yield target


@pytest.mark.parametrize("document", WITH_PATHS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    named = set(paths_in(document.read_text(), tops()))
    assert len(named) > 10
    assert [name for name in sorted(named) if not any(ROOT.glob(name.rstrip("/")))] == []


def test_the_tree_in_the_architecture_is_the_tree() -> None:
    folders = list(folders_of_the_tree(ARCHITECTURE.read_text()))
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    for package in ("adapters", "jobs/logic", "schemas"):
        parts = {f"{package}/{path.parent.name}" for path in (ROOT / package).glob("*/__init__.py")}
        assert parts <= set(folders), f"{package}: a sub-package is missing in the tree"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    assert [link for link in links_in(document) if not (document.parent / link).exists()] == []


def test_the_architecture_names_who_writes_and_reads_every_topic() -> None:
    every = {topic.name for topic in vars(topics).values() if isinstance(topic, topics.Topic)}
    rows = set(re.findall(r"(?m)^\| `([a-z.0-9-]+)` \|", ARCHITECTURE.read_text()))
    assert every
    assert every - rows == set(), "add a row to the table of topics"
    assert {name for name in rows if "." in name} - every == set(), "the registry has no such topic"


def test_the_architectures_picture_has_every_job() -> None:
    jobs = {
        name
        for path in (ROOT / "jobs").glob("*.py")
        for name in re.findall(r'(?m)^NAME = "([a-z-]+)"$', path.read_text())
    }
    assert jobs
    assert [name for name in sorted(jobs) if f'{{{{"{name}"}}}}' not in ARCHITECTURE.read_text()] == []


def test_every_alert_operator_has_its_comparison() -> None:
    assert set(get_args(Op)) == set(evaluation._OPERATORS)


def test_decisions_are_numbered_without_a_gap_dated_and_listed() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    dates = []
    for path in DECISIONS:
        dated = re.search(r"(?m)^Date: (\d{4}-\d{2}-\d{2})\. Status: [a-z0-9 ]+\.$", path.read_text())
        assert dated, f"{path.name}: no line `Date: YYYY-MM-DD. Status: accepted.`"
        dates.append(dated[1])
        assert f"({path.name})" in index, f"docs/decisions/README.md doesn't list {path.name}"
    assert dates == sorted(dates)


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    import typer.main

    from tidegate.cli.main import app

    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    page = (ROOT / "docs" / "commands.md").read_text()
    first = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `tidegate ")]
    listed = {word for cell in first for word in re.findall(r"(?:`tidegate |, `)([a-z-]+)", cell)}
    assert listed == commands
