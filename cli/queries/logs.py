"""`tidegate logs`: searches gateway lines and service records. `tidegate trace`: shows one request in full."""

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
from tidegate.jobs.logic.identity import replica_of_line

if TYPE_CHECKING:
    from tidegate.adapters.queries.log_search import LogLine
    from tidegate.adapters.queries.request_lookup import Request, Story
    from tidegate.schemas.settings import Settings

DEFAULT_LIMIT = 200
_FOLLOW_SECONDS = 1.0
_LATE = timedelta(seconds=15)
"""How late a line may be found: it is written at the request's end, and carries the time of its start."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class KindName(StrEnum):
    """The source of a line."""

    ACCESS = "access"
    SERVICE = "service"


class SeverityName(StrEnum):
    """OpenTelemetry's short names, in lower case."""

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
        typer.Option("--kind", "-k", help="gateway lines (access) or service records; default: both"),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="start 30s, 5m, 2h or 1d ago")
    ] = "15m",
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="end 30s, 5m, 2h or 1d ago; default: now")
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option("--grep", "-g", metavar="REGEX", help="match the whole line, case-insensitively"),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            help="gateway lines with this HTTP status (503), outcome (4xx, 5xx, aborted, rate_limited, ok) or gRPC "
            "status (grpc:14, grpc:*); can be repeated",
        ),
    ] = None,
    slower_than: Annotated[
        str | None, typer.Option("--slower-than", metavar="TIME", help="gateway lines slower than 500ms, 2s")
    ] = None,
    severity: Annotated[
        SeverityName | None, typer.Option("--severity", help="service records of this severity or higher")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="show at most the newest N lines")
    ] = DEFAULT_LIMIT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="continue with new lines")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """Search the gateway's access log and the services' logs in Elasticsearch, oldest first.

    Exits with 1 if no line matches.
    """
    from tidegate.adapters.queries.log_search import LogQuery, search, status_query

    now = datetime.now(UTC)
    for text in status or ():
        try:
            status_query(text)
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
        raise typer.BadParameter("--follow has no end; leave out --until")
    options: Options = context.obj
    settings = options.load()
    with asking(settings) as client:
        found = search(client, settings.elasticsearch, query, limit)
        _print(found.lines, json=json)
        if found.more:
            scope = (
                "--grep searches only the newest 10,000 lines"
                if query.grep is not None
                else "older lines match too"
            )
            typer.echo(
                f"showing the newest {len(found.lines)} lines; {scope}; change --limit, --since or the filters",
                err=True,
            )
        if not follow:
            if not found.lines:
                typer.echo(
                    "no line matches; check that `tidegate ship` and `tidegate index` are running", err=True
                )
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
    """Show one request: the gateway's line, the service's records, the metrics around it, the alerts that fired.

    Exits with 1 if the request isn't found.
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
            f"{identifier} is not found; a line can be found a few seconds after it is written, for as long as its "
            "index is kept",
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
    """A line as readable text, with the stack trace indented below its record."""
    fields = line.fields
    at = f"{line.at:%Y-%m-%d} {_clock(line.at)}"
    subject = f"{fields.get('department')}/{fields.get('task')}"
    if line.kind == "service":
        text = str(fields.get("message", "")).replace("\n", "\n    ")
        return f"{at} {fields.get('severity') or '-':5} {subject} {fields.get('replica')}  {text}"
    parts = [
        f"{at} {fields.get('response_code', '-')!s:5} {subject}",
        f"{fields.get('method', '-')} {fields.get('path', '-')}",
        f"{fields.get('duration', '-')} ms",
        f"by {replica_of_line(fields) or '-'}",
    ]
    if fields.get("response_flags") not in (None, "-"):
        parts.append(f"flags {fields['response_flags']}")
    if fields.get("grpc_status") not in (None, "-", ""):
        parts.append(f"grpc {fields['grpc_status']}")
    return "  ".join([*parts, f"id {fields.get('request_id', '-')}"])


def _print_request(request: Request) -> None:
    fields = request.line.fields
    typer.echo(f"request  {fields.get('request_id')}")
    typer.echo(f"         {fields.get('method')} {fields.get('authority')}{fields.get('path')}")
    typer.echo(
        f"task     {fields.get('department')}/{fields.get('task')}"
        + (f", version {fields['version']}" if fields.get("version") else "")
        + f", replica {replica_of_line(fields) or '- (none was reached)'}"
    )
    grpc_status = fields.get("grpc_status")
    typer.echo(
        f"answer   {fields.get('response_code')} ({fields.get('response_code_details')}), outcome "
        f"{fields.get('outcome') or '-'}, gRPC status {'-' if grpc_status is None else grpc_status}, flags "
        f"{fields.get('response_flags')}, {fields.get('duration')} ms, of them the replica's "
        f"{fields.get('upstream_service_time') or '-'} ms"
    )
    typer.echo(f"client   {fields.get('client') or '-'}, from {fields.get('downstream_remote_address')}")
    for alert in request.alerts:
        typer.echo(f"alert    {alert.severity} {alert.rule}: {alert.message}")


def _print_windows(request: Request) -> None:
    if request.windows:
        typer.echo("\nmetrics of the seconds around its end")
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
        typer.echo("\nno service record has its request id or its trace id")
        return
    typer.echo("\nrecords of the service")
    for record in story.records:
        fields = record.fields
        subject = f"{fields.get('department')}/{fields.get('task')}, replica {fields.get('replica')}"
        typer.echo(f"{fields.get('severity') or '-':8} {_clock(record.at)}, {subject}")
        for line in str(fields.get("message", "")).splitlines():
            typer.echo(f"         {line}")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _milliseconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"--slower-than {text} is not a duration; write a number and ms or s, such as 500ms"
        )
    return float(found[1]) * (1000 if found[2] == "s" else 1)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise typer.BadParameter(f"--grep {text!r} is not a valid regular expression: {error}") from error
