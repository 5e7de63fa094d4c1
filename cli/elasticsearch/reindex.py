"""`tidegate reindex`: the indices of one topic anew, from Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.app_context import DONE, INTERRUPTED, CommandFailed, Options
from tidegate.cli.elasticsearch_connection import asking
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from tidegate.adapters.indexing.reindexing.compare import Comparison


class WhenLessName(StrEnum):
    """`adapters.reindex.WhenLess`, as an option of the command line."""

    REFUSE = "refuse"
    KEEP = "keep"
    REPLACE = "replace"


def reindex(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="without the prefix, such as tidegate.service-metrics.1m")],
    when_less: Annotated[
        WhenLessName,
        typer.Option(
            "--when-less",
            help="where an index holds documents that the topic doesn't: refuse to do anything, keep that index, "
            "or replace it and lose them",
        ),
    ] = WhenLessName.REFUSE,
) -> int:
    """Build the indices of a topic anew from Kafka, beside the old ones, and put them in their place at once.

    Searches see the old ones until then. `tidegate index` may run beside it. Interrupted, it changes nothing and can
    be run again. An index of a day that the topic holds nothing of stays.
    """
    from tidegate.adapters.indexing.reindexing.place import TakenOver
    from tidegate.adapters.indexing.reindexing.reindexer import CannotReindex, WouldLose, reindex
    from tidegate.schemas.elasticsearch import contract_of

    options: Options = context.obj
    settings = options.load()
    try:
        contract = contract_of(topic)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        with failures(settings), asking(settings) as client, stopping() as received:
            done = reindex(settings, contract, client, when_less.value, received.stop)
    except WouldLose as error:
        _print(error.lacking)
        raise CommandFailed(
            f"{contract.topic.name} no longer holds all that these indices hold, so nothing was changed. "
            "--when-less keep: they stay, the others are built anew; --when-less replace: they are replaced, and what "
            "is missing is lost"
        ) from error
    except (CannotReindex, TakenOver) as error:
        raise CommandFailed(str(error)) from error
    if done is None:
        typer.echo("stopped; the old indices are in service as before", err=True)
        return INTERRUPTED
    _print([*done.replaced, *done.kept], {one.target for one in done.kept})
    typer.echo(str(done.counters), err=True)
    return DONE


def _print(compared: Iterable[Comparison], kept: Iterable[str] = ()) -> None:
    """A table of indices, by name."""
    rows = sorted(compared, key=lambda one: one.target)
    width = max([len("index"), *(len(one.target) for one in rows)])
    typer.echo(f"{'index':{width}} {'documents':>13} {'built anew':>13} {'missing':>13}")
    for one in rows:
        built = "-" if one.new is None else f"{one.new_documents:,}"
        missing = "-" if one.new is None else f"{one.missing:,}"
        typer.echo(
            f"{one.target:{width}} {one.old_documents:13,} {built:>13} {missing:>13}"
            f"{'  stays as it was' if one.target in kept else ''}"
        )
