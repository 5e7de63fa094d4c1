"""`tidegate retention`: deletes expired daily indices, and reports the disk space of each topic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, Options
from tidegate.cli.elasticsearch_connection import asking
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

    from tidegate.schemas.settings import Settings

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def retention(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="list what would be deleted; delete nothing")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="TIME", help="repeat at this interval, such as 1h, until it is stopped"
        ),
    ] = None,
    sizes: Annotated[
        bool,
        typer.Option(
            "--sizes", help="only report the disk space of each topic, now and once its indices expire"
        ),
    ] = False,
    requests_per_day: Annotated[
        float | None,
        typer.Option(
            "--requests-per-day",
            min=0,
            help="with --sizes: the load to estimate for; default: the load of the minutes in Elasticsearch",
        ),
    ] = None,
) -> int:
    """Delete the daily indices that are older than elasticsearch.keep_days.

    Kafka is not touched. On a server with ILM, its policies delete the indices, and this command finds none.
    """
    options: Options = context.obj
    settings = options.load()
    wait = None if every is None else age("--every", every).total_seconds()
    with asking(settings) as client:
        if sizes:
            _print_sizes(client, settings, requests_per_day)
            return DONE
        _delete(client, settings, dry_run=dry_run)
        if wait is None:
            return DONE
        with stopping() as received:
            while not received.stop.wait(wait):
                _delete(client, settings, dry_run=dry_run)
        return received.exit_code


def _delete(client: Client, settings: Settings, *, dry_run: bool) -> None:
    from tidegate.adapters.indexing.retention import day_indices, remove

    found = day_indices(client, settings.elasticsearch)
    today = datetime.now(UTC).date()
    expired = [index for index in found if index.is_expired(today)]
    for index in expired:
        if not dry_run:
            remove(client, index)
        done = "would be deleted" if dry_run else "deleted"
        typer.echo(
            f"{index.name}: {done} ({index.documents:,} documents, {as_size(index.store_bytes)}; "
            f"kept for {index.keep_days} days)"
        )
    freed = as_size(sum(index.store_bytes for index in expired))
    typer.echo(f"{len(expired)} of {len(found)} daily indices, {freed}", err=True)


def _print_sizes(client: Client, settings: Settings, requests_per_day: float | None) -> None:
    from tidegate.adapters.indexing.retention import requests, room

    counted = requests(client, settings.elasticsearch)
    per_day = counted.per_day if requests_per_day is None else requests_per_day
    rooms = room(client, settings.elasticsearch, counted)
    typer.echo(
        f"{'topic':34} {'indices':>7} {'documents':>13} {'size':>10} {'a document':>11} {'a million requests':>19} "
        f"{'days kept':>9} {'expected':>10}"
    )
    total = 0.0
    for one in rooms:
        kept = None if per_day is None else one.kept_bytes(per_day)
        total += kept or 0
        typer.echo(
            f"{one.topic:34} {one.indices:7,} {one.documents:13,} {as_size(one.store_bytes):>10} "
            f"{_or_dash(one.store_bytes / one.documents if one.documents else None):>11} "
            f"{_or_dash(one.per_million_requests):>19} {one.keep_days or '-':>9} {_or_dash(kept):>10}"
        )
    if per_day is None:
        typer.echo("Elasticsearch holds no row of a minute, so the size per request is unknown", err=True)
        return
    source = "the minutes in Elasticsearch" if requests_per_day is None else "--requests-per-day"
    typer.echo(
        f"expected: {as_size(total)}, today's indices included, at {per_day:,.0f} requests a day ({source})"
    )


def _or_dash(number: float | None) -> str:
    return "-" if number is None else as_size(number)


def as_size(number: float) -> str:
    """Bytes for people."""
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:,.0f} {unit}" if unit == "B" or number >= 100 else f"{number:,.1f} {unit}"
