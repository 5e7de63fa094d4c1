"""`tidegate dead-letters`: inputs that could not be read, by reason, with excerpts."""

from __future__ import annotations

import json as json_text
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tidegate.adapters.queries.dead_letters import ReasonGroup
    from tidegate.schemas.rows.accounting import DeadLetter

_EXCERPT_CHARACTERS = 160


def dead_letters(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Option("--topic", help="only inputs of this topic (whole name)")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="only reasons that contain this text")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="letters of the last 30s, 5m, 2h or 1d")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="then each letter as it comes")] = False,
    json: Annotated[bool, typer.Option("--json", help="one letter a line, as in Kafka")] = False,
) -> int:
    """Show tidegate.dead-letters by reason, most letters first, each with its newest excerpt.

    Ends at the newest letter in Kafka, unless --follow is given. Joins no consumer group.
    """
    from tidegate.adapters.queries.dead_letters import DeadLetterReader, LetterFilter, by_reason

    options: Options = context.obj
    settings = options.load()
    begin = None if since is None else datetime.now(UTC) - age("--since", since)
    wanted = LetterFilter(topic, reason)
    with failures(settings):
        reader = DeadLetterReader(settings.kafka)
        try:
            held = reader.held(wanted, begin)
            _print(held, by_reason(held), json=json, follow=follow)
            code = _print_coming(reader.follow(wanted), json=json) if follow else DONE
        finally:
            reader.close()
        if reader.unreadable:
            typer.echo(f"{reader.unreadable} messages are not valid dead letters", err=True)
    return code


def group_lines(group: ReasonGroup) -> Iterator[str]:
    """A kind of reason: how many, since when, the newest reason, and where and what its input was."""
    from tidegate.schemas.timestamps import to_text

    newest = group.newest
    yield (
        f"{group.letters} of {group.topic}, {to_text(group.first_seen_at)} to {to_text(newest.seen_at)}: "
        f"{newest.reason}"
    )
    yield f"    {_place(newest)}: {shown(newest.excerpt)}"


def letter_line(letter: DeadLetter) -> str:
    """One letter that came."""
    from tidegate.schemas.timestamps import to_text

    return f"{to_text(letter.seen_at)}  {_place(letter)}  {letter.reason}  {shown(letter.excerpt)}"


def shown(excerpt: str) -> str:
    """The excerpt on one line of a terminal: quoted, control characters escaped, cut after 160 characters."""
    cut = excerpt[:_EXCERPT_CHARACTERS]
    text = json_text.dumps(cut, ensure_ascii=False)
    safe = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
    return safe + ("…" if len(excerpt) > len(cut) else "")


def _place(letter: DeadLetter) -> str:
    if letter.partition is None or letter.offset is None:
        return letter.id.partition("|")[0]
    return f"{letter.topic}-{letter.partition}-{letter.offset}"


def _print(held: list[DeadLetter], groups: Iterable[ReasonGroup], *, json: bool, follow: bool) -> None:
    if json:
        for letter in held:
            typer.echo(letter.model_dump_json())
        return
    for group in groups:
        for line in group_lines(group):
            typer.echo(line)
    if not held and not follow:
        typer.echo("no dead letter matches", err=True)


def _print_coming(coming: Iterable[DeadLetter | None], *, json: bool) -> int:
    """Print letters until SIGTERM or Ctrl-C; returns the exit code."""
    with stopping() as received:
        for letter in coming:
            if letter is None:
                sys.stdout.flush()
            else:
                typer.echo(letter.model_dump_json() if json else letter_line(letter))
            if received.stop.is_set():
                break
    return received.exit_code
