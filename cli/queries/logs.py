"""`tidegate logs`: gateways' lines and services' records. `tidegate trace`: all that is known of one request."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, FAILED, Options
from tidegate.cli.elasticsearch_connection import asking
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from tidegate.adapters.queries.log_search import LogLine
    from tidegate.adapters.queries.request_lookup import Request, Story
    from tidegate.schemas.settings import Settings

DEFAULT_LIMIT = 200
_FOLLOW_SECONDS = 1.0
_LATE = timedelta(seconds=15)
"""So late a line may be found: it is written at a request's end, and carries its beginning."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class KindName(StrEnum):
    """Whose lines."""

    ACCESS = "access"
    SERVICE = "service"


class SeverityName(StrEnum):
    """OpenTelemetry's short names, in small letters."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    FATAL = "fatal"


def logs(
    context: typer.Context,
    department: Annotated[str | None, typer.Option("--department", "-d")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t")] = None,
    kind: Annotated[
        KindName | None,
        typer.Option("--kind", "-k", help="the gateway's lines, or the services'; default: both"),
    ] = None,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="30s, 5m, 2h or 1d ago")] = "15m",
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="as --since; default: now")
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option("--grep", "-g", metavar="REGEX", help="in the whole line, without regard to case"),
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="of the gateway's lines: 503, 5xx; again for others")
    ] = None,
    slower_than: Annotated[
        str | None, typer.Option("--slower-than", metavar="TIME", help="of the gateway's lines: 500ms, 2s")
    ] = None,
    severity: Annotated[
        SeverityName | None, typer.Option("--severity", help="of the services' records: this or worse")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="the newest so many")
    ] = DEFAULT_LIMIT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="then go on with what comes")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """Search the gateway's access log and the services' logs in Elasticsearch, oldest first.

    Exits with 1 when nothing is found.
    """
    from tidegate.adapters.queries.log_search import LogQuery, search, status_range

    now = datetime.now(UTC)
    for text in status or ():
        try:
            status_range(text)
        except ValueError as error:
            raise typer.BadParameter(f"--status {error}") from error
    query = LogQuery(
        since=now - age("--since", since),
        until=None if until is None else now - age("--until", until),
        department=department,
        task=task,
        kind=None if kind is None else kind.value,
        statuses=tuple(status or ()),
        slower_than_ms=None if slower_than is None else _milliseconds(slower_than),
        severity=None if severity is None else severity.value.upper(),
        grep=None if grep is None else _pattern(grep),
    )
    if follow and until is not None:
        raise typer.BadParameter("--follow has no end: give no --until")
    options: Options = context.obj
    settings = options.load()
    with asking(settings) as client:
        found = search(client, settings.elasticsearch, query, limit)
        _print(found.lines, json=json)
        if found.more:
            where = "of the newest 10,000 lines" if query.grep is not None else "older ones are there"
            typer.echo(f"the newest {len(found.lines)}; {where}: --limit, --since and the filters", err=True)
        if not follow:
            if not found.lines:
                typer.echo("no line matches; does `tidegate index` run, and `tidegate ship`?", err=True)
            return DONE if found.lines else FAILED
        seen = {line.key for line in found.lines}
        with stopping() as received:
            while not received.stop.wait(_FOLLOW_SECONDS):
                later = replace(query, since=max(query.since, datetime.now(UTC) - 4 * _LATE))
                coming = search(client, settings.elasticsearch, later, 10_000).lines
                _print(
                    (line for line in coming if line.key not in seen and line.at >= now - _LATE), json=json
                )
                seen = {line.key for line in coming} | (seen if len(seen) < 100_000 else set())
        return received.exit_code


def trace(
    context: typer.Context,
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="a request id (x-request-id), a trace id, or a traceparent")
    ],
    json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> int:
    """Show one request: the gateway's line, the service's records, the seconds around it, the alerts that fired.

    Exits with 1 when nothing is known of it.
    """
    from tidegate.adapters.queries.request_lookup import look_up, trace_links

    options: Options = context.obj
    settings = options.load()
    with asking(settings) as client:
        story = look_up(client, settings.elasticsearch, identifier.strip())
    if json:
        sys.stdout.write(orjson.dumps(as_json(story, settings)).decode() + "\n")
    elif not story.empty:
        for request in story.requests:
            _print_request(request)
        _print_records(story)
        for request in story.requests:
            _print_windows(request)
        for url in trace_links(story, settings.lookup):
            typer.echo(f"\ntrace    {url}")
    if story.empty:
        typer.echo(
            f"nothing is known of {identifier}; a line is found some seconds after it was written, as long as "
            "its index is kept",
            err=True,
        )
        return FAILED
    return DONE


def as_json(story: Story, settings: Settings) -> dict[str, Any]:
    """The story as plain values."""
    from tidegate.adapters.queries.request_lookup import trace_links

    return {
        "requests": [
            {
                "line": dict(request.line.fields),
                "ended_at": request.ended_at,
                "windows": [row.model_dump(mode="json") for row in request.windows],
                "alerts": [row.model_dump(mode="json") for row in request.alerts],
            }
            for request in story.requests
        ],
        "records": [dict(record.fields) | {"at": record.at} for record in story.records],
        "request_ids": list(story.request_ids),
        "trace_ids": list(story.trace_ids),
        "links": trace_links(story, settings.lookup),
    }


def _print(lines: Iterable[LogLine], *, json: bool) -> None:
    for line in lines:
        if json:
            typer.echo(orjson.dumps({"kind": line.kind, "at": line.at, **line.fields}).decode())
        else:
            typer.echo(as_text(line))
    sys.stdout.flush()


def as_text(line: LogLine) -> str:
    """One line for people; a stack trace stands below its record, indented."""
    told = line.fields
    at = f"{line.at:%Y-%m-%d} {_clock(line.at)}"
    whose = f"{told.get('department')}/{told.get('task')}"
    if line.kind == "service":
        text = str(told.get("message", "")).replace("\n", "\n    ")
        return f"{at} {told.get('severity') or '-':5} {whose} {told.get('replica')}  {text}"
    parts = [
        f"{at} {told.get('response_code', '-')!s:5} {whose}",
        f"{told.get('method', '-')} {told.get('path', '-')}",
        f"{told.get('duration', '-')} ms",
        f"by {told.get('upstream_host') or '-'}",
    ]
    if told.get("response_flags") not in (None, "-"):
        parts.append(f"flags {told['response_flags']}")
    return "  ".join([*parts, f"id {told.get('request_id', '-')}"])


def _print_request(request: Request) -> None:
    told = request.line.fields
    typer.echo(f"request  {told.get('request_id')}")
    typer.echo(f"         {told.get('method')} {told.get('authority')}{told.get('path')}")
    typer.echo(
        f"task     {told.get('department')}/{told.get('task')}"
        + (f", version {told['version']}" if told.get("version") else "")
        + f", replica {told.get('upstream_host') or '- (none was reached)'}"
    )
    typer.echo(
        f"answer   {told.get('response_code')} ({told.get('response_code_details')}), flags "
        f"{told.get('response_flags')}, {told.get('duration')} ms, of them the replica's "
        f"{told.get('upstream_service_time') or '-'} ms"
    )
    typer.echo(f"client   {told.get('client') or '-'}, from {told.get('downstream_remote_address')}")
    for alert in request.alerts:
        typer.echo(f"alert    {alert.severity} {alert.rule}: {alert.message}")


def _print_windows(request: Request) -> None:
    if request.windows:
        typer.echo("\nthe seconds around its end")
        typer.echo("         time      level    requests   p99 ms    5xx  limited  replica")
    for row in request.windows:
        its = "  <- its second" if row.window_start <= request.ended_at < row.window_end else ""
        p99 = "-" if row.latency_p99_ms is None else f"{row.latency_p99_ms:,.0f}"
        typer.echo(
            f"         {row.window_start:%H:%M:%S}  {row.level:8} {row.requests:8,} {p99:>8} {row.errors_5xx:6,} "
            f"{row.rate_limited:8,}  {row.replica or ''}{its}"
        )


def _print_records(story: Story) -> None:
    if not story.records:
        typer.echo("\nno record of a service has its id or its trace")
        return
    typer.echo("\nwhat the service wrote")
    for record in story.records:
        told = record.fields
        whose = f"{told.get('department')}/{told.get('task')}, replica {told.get('replica')}"
        typer.echo(f"{told.get('severity') or '-':8} {_clock(record.at)}, {whose}")
        for line in str(told.get("message", "")).splitlines():
            typer.echo(f"         {line}")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _milliseconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"--slower-than {text}: write a number and ms or s, such as 500ms")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise typer.BadParameter(f"--grep {text!r} is no regular expression: {error}") from error
