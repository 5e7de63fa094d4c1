"""`tidegate reindex`: rebuilds the indices of one topic from Kafka."""

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
            help="if an index holds documents that the topic no longer holds: refuse and change nothing, keep that "
            "index, or replace it and lose them",
        ),
    ] = WhenLessName.REFUSE,
) -> int:
    """Rebuild the indices of a topic from Kafka beside the old ones, then switch to them in one step.

    Searches use the old indices until the switch. `tidegate index` may run at the same time. An interrupted run changes
    nothing and can be repeated. If the topic holds nothing of a day, that day's index stays.
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
            f"{contract.topic.name} no longer holds every document of these indices, so nothing was changed; "
            "--when-less keep leaves them as they are and rebuilds the others, --when-less replace replaces them and "
            "loses the missing documents"
        ) from error
    except (CannotReindex, TakenOver) as error:
        raise CommandFailed(str(error)) from error
    if done is None:
        typer.echo("stopped; the old indices are still in use", err=True)
        return INTERRUPTED
    _print([*done.replaced, *done.kept], {one.target for one in done.kept})
    typer.echo(str(done.counters), err=True)
    return DONE


def _print(compared: Iterable[Comparison], kept: Iterable[str] = ()) -> None:
    """A table of indices, by name."""
    rows = sorted(compared, key=lambda one: one.target)
    width = max([len("index"), *(len(one.target) for one in rows)])
    typer.echo(f"{'index':{width}} {'documents':>13} {'rebuilt':>13} {'missing':>13}")
    for one in rows:
        built = "-" if one.new is None else f"{one.new_documents:,}"
        missing = "-" if one.new is None else f"{one.missing:,}"
        typer.echo(
            f"{one.target:{width}} {one.old_documents:13,} {built:>13} {missing:>13}"
            f"{'  unchanged' if one.target in kept else ''}"
        )
