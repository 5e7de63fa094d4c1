"""The page's HTTP interface, read-only: JSON below /api, the page itself everywhere else."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import orjson
from elastic_transport import TransportError
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse, Response

from tidegate.adapters.indexing.client import trouble
from tidegate.adapters.queries.log_search import SEVERITIES, LogLine, LogQuery, search, status_query
from tidegate.adapters.queries.request_lookup import Story, look_up, trace_links
from tidegate.schemas.response_flags import RESPONSE_FLAGS
from tidegate.schemas.settings import Settings
from tidegate.ui.assets import Assets
from tidegate.ui.source import Source, SourceUnavailable
from tidegate.ui.views import ListLevel, Scope, Views

logger = logging.getLogger(__name__)

DEFAULT_LAST = timedelta(minutes=15)
LONGEST = timedelta(days=7)
MOST_LINES = 1000
# The page loads everything from this server; the browser must load nothing else, whatever a log line contains.
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

Name = Annotated[str | None, Query(max_length=300)]
EpochMs = Annotated[int | None, Query(ge=0, le=32_503_680_000_000)]


@dataclass(frozen=True)
class Parts:
    """The app's collaborators. client: of the Elasticsearch that has the logs; None if there is none."""

    source: Source
    client: Client | None
    settings: Settings
    assets: Assets
    now: Callable[[], datetime]


def create_app(parts: Parts) -> FastAPI:
    """The page and its API. An unavailable source is 503, an invalid query 422, both with a readable `detail`."""
    app = FastAPI(title="tidegate ui", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(parts.settings.ui.allowed_hosts))
    _guard(app)
    _rows(app, parts, Views(parts.source))
    _logs(app, parts)
    _page(app, parts.assets)
    return app


def _guard(app: FastAPI) -> None:
    @app.middleware("http")
    async def headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if request.url.path.startswith("/api/"):
            response.headers["cache-control"] = "no-store"
        return response

    @app.exception_handler(SourceUnavailable)
    async def unavailable(request: Request, error: SourceUnavailable) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)


def _rows(app: FastAPI, parts: Parts, views: Views) -> None:
    @app.get("/api/about")
    def about() -> dict[str, Any]:
        source = parts.source
        return {
            "source": source.name,
            "address": source.address,
            "reach": source.reach,
            "logs": parts.client is not None,
        }

    @app.get("/api/response-flags")
    def response_flags() -> dict[str, str]:
        return {form: flag.occurs_when for flag in RESPONSE_FLAGS for form in (flag.short, flag.long)}

    @app.get("/api/now/{level}")
    def now(level: ListLevel, department: Name = None, task: Name = None) -> Response:
        return _json(views.now(level, department, task))

    @app.get("/api/parts")
    def task_parts(department: str, task: str) -> Response:
        return _json(views.parts(Scope(department, task)))

    @app.get("/api/series")
    def series(
        department: str,
        task: Name = None,
        version: Name = None,
        replica: Name = None,
        since: EpochMs = None,
        until: EpochMs = None,
    ) -> Response:
        begin, end = _stretch(since, until, parts.now())
        return _json(views.series(Scope(department, task, version, replica), begin, end))

    @app.get("/api/events")
    def events(
        department: Name = None, task: Name = None, since: EpochMs = None, until: EpochMs = None
    ) -> Response:
        begin, end = _stretch(since, until, parts.now())
        return _json(views.events(department, task, begin, end))

    @app.get("/api/alerts")
    def alerts() -> Response:
        return _json(views.firing())


def _logs(app: FastAPI, parts: Parts) -> None:
    def asking() -> Client:
        if parts.client is None:
            raise HTTPException(
                503,
                "logs need Elasticsearch, and it doesn't answer; set elasticsearch.url, and run tidegate index",
            )
        return parts.client

    @app.exception_handler(TransportError)
    @app.exception_handler(ApiError)
    async def failed(request: Request, error: TransportError | ApiError) -> JSONResponse:
        return JSONResponse({"detail": trouble(parts.settings.elasticsearch.url, error)}, 503)

    @app.get("/api/logs")
    def logs(
        department: Name = None,
        task: Name = None,
        kind: Literal["access", "service"] | None = None,
        status: Annotated[list[str] | None, Query(max_length=20)] = None,
        slower_than_ms: Annotated[float | None, Query(ge=0)] = None,
        severity: str | None = None,
        contains: Annotated[str | None, Query(max_length=500)] = None,
        since: EpochMs = None,
        until: EpochMs = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LINES)] = 200,
    ) -> Response:
        begin, end = _stretch(since, until, parts.now())
        query = LogQuery(
            since=begin,
            until=end,
            department=department or None,
            task=task or None,
            kind=kind,
            statuses=tuple(map(_status, status or ())),
            slower_than_ms=slower_than_ms,
            severity=None if not severity else _severity(severity),
            grep=re.compile(re.escape(contains), re.IGNORECASE) if contains else None,
        )
        found = search(asking(), parts.settings.elasticsearch, query, limit)
        return _json({"lines": [_line(one) for one in found.lines], "more": found.more})

    @app.get("/api/trace/{identifier:path}")
    def trace(identifier: str) -> Response:
        story = look_up(asking(), parts.settings.elasticsearch, identifier.strip())
        return _json(_story(story, parts.settings))


def _page(app: FastAPI, assets: Assets) -> None:
    @app.get("/assets/{name:path}")
    def asset(name: str) -> Response:
        found = assets.get(name)
        if found is None:
            raise HTTPException(404, f"there is no file {name}")
        # Revalidated each time: an upgraded server is never used with an old page's files.
        return Response(found.content, media_type=found.media_type, headers={"cache-control": "no-cache"})

    @app.get("/api/{rest:path}")
    def nothing(rest: str) -> Response:
        raise HTTPException(404, f"/api/{rest} is not an address of tidegate ui")

    @app.get("/{rest:path}")
    def page(rest: str) -> Response:
        found = assets.page
        return Response(found.content, media_type=found.media_type, headers={"cache-control": "no-cache"})


def _stretch(since: int | None, until: int | None, now: datetime) -> tuple[datetime, datetime]:
    end = now if until is None else datetime.fromtimestamp(until / 1000, UTC)
    begin = end - DEFAULT_LAST if since is None else datetime.fromtimestamp(since / 1000, UTC)
    if begin >= end:
        raise HTTPException(422, "since must be before until")
    if end - begin > LONGEST:
        raise HTTPException(422, f"the time range is longer than {LONGEST.days} days; choose a shorter one")
    return begin, end


def _status(text: str) -> str:
    try:
        status_query(text)
    except ValueError as error:
        raise HTTPException(422, f"status: {error}") from error
    return text


def _severity(text: str) -> str:
    if text.upper() not in SEVERITIES:
        raise HTTPException(422, f"severity: {text!r} is not one of {', '.join(SEVERITIES)}")
    return text.upper()


def _line(line: LogLine) -> dict[str, Any]:
    return {"kind": line.kind, "at": line.at, "fields": dict(line.fields)}


def _story(story: Story, settings: Settings) -> dict[str, Any]:
    return {
        "requests": [
            {
                "line": _line(request.line),
                "ended_at": request.ended_at,
                "windows": [
                    row.model_dump(mode="json", exclude={"histogram", "first_byte_histogram"})
                    for row in request.windows
                ],
                "alerts": [row.model_dump(mode="json") for row in request.alerts],
            }
            for request in story.requests
        ],
        "records": [_line(one) for one in story.records],
        "request_ids": list(story.request_ids),
        "trace_ids": list(story.trace_ids),
        "links": trace_links(story, settings.lookup),
    }


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
