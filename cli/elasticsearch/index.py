"""`tidegate index`: Kafka topics to Elasticsearch."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping


def index(
    context: typer.Context,
    topic: Annotated[
        list[str] | None,
        typer.Argument(help="topics without the prefix, such as tidegate.service-metrics.1s; default: all"),
    ] = None,
    bounded: Annotated[
        bool, typer.Option("--bounded", help="stop when everything that the topics hold now is indexed")
    ] = False,
) -> int:
    """Index topics in Elasticsearch: one document for each row, however often the row is read.

    Installs the index templates, then runs until SIGTERM or Ctrl-C. Several instances share the partitions.
    """
    from tidegate.adapters.indexing.indexer import TemplatesRefused, run_indexer
    from tidegate.schemas.elasticsearch import INDEX_CONTRACTS, contract_of

    options: Options = context.obj
    settings = options.load()
    try:
        contracts = [contract_of(name) for name in dict.fromkeys(topic)] if topic else list(INDEX_CONTRACTS)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        with failures(settings), stopping() as received:
            counters = run_indexer(settings, contracts, bounded=bounded, stop=received.stop)
    except TemplatesRefused as error:
        raise CommandFailed(str(error)) from error
    typer.echo(str(counters))
    for name, count in sorted(counters.indexed.items()):
        typer.echo(f"  {name}: {count}")
    return received.exit_code
