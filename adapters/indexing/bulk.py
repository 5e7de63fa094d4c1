"""A bulk request, and the outcome of each of its documents."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from elastic_transport import TransportError
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client
from elasticsearch.helpers import streaming_bulk

from tidegate.adapters.indexing.documents import Document

Verdict = Literal["indexed", "refused", "retry"]

_REQUEST_AT_FAULT = (400, 413)
_REASON_CHARACTERS = 500

_NOT_THE_DOCUMENT = frozenset(
    {
        "cluster_block_exception",
        "index_closed_exception",
        "index_not_found_exception",
        "security_exception",
        "validation_exception",  # the cluster holds as many shards as it may
    }
)
"""Errors with a 4xx status for a valid document: any other document would get them too."""


@dataclass
class Attempt:
    """The outcomes of the documents of one attempt; each document has exactly one."""

    indexed: int = 0
    refused: list[tuple[Document, str]] = field(default_factory=list)
    retry: list[Document] = field(default_factory=list)
    retry_reason: str = ""

    def hold(self, documents: Sequence[Document], reason: str) -> None:
        """Keep these documents for a retry."""
        self.retry.extend(documents)
        self.retry_reason = reason


def judge(status: int, error: object) -> Verdict:
    """The outcome of one document's answer.

    A refusal is for good only where the document is at fault (400, 413 and the like). A full, blocked, closed
    or missing index and missing rights hold the consumer: they'd hit every document.
    """
    if 200 <= status < 300:
        return "indexed"
    if status in {401, 403, 404, 408, 409, 429} or status >= 500 or status < 400:
        return "retry"
    kind = error.get("type") if isinstance(error, Mapping) else None
    return "retry" if kind in _NOT_THE_DOCUMENT else "refused"


def describe(error: object) -> str:
    """The error and its innermost cause in one line."""
    if not isinstance(error, Mapping):
        return str(error)[:_REASON_CHARACTERS]
    text = f"{error.get('type')}: {error.get('reason')}"
    cause: Any = error
    while isinstance(cause, Mapping) and isinstance(cause.get("caused_by"), Mapping):
        cause = cause["caused_by"]
    if cause is not error:
        text += f" ({cause.get('type')}: {cause.get('reason')})"
    return " ".join(text.split())[:_REASON_CHARACTERS]


def attempt_bulk(client: Client, documents: Sequence[Document]) -> Attempt:
    """Send these documents once. Raises nothing for what Elasticsearch or the network does.

    Documents go in one request. Where the request as a whole is refused as malformed or too large, it is
    halved until the documents at fault stand alone.
    """
    attempt = Attempt()
    malformed = _send(client, documents, attempt)
    if malformed == len(documents) > 1:
        # Nothing passes, not even alone: what stands at this address is wrong, not the documents.
        reason = attempt.refused[0][1]
        attempt = Attempt()
        attempt.hold(documents, f"Elasticsearch rejects every bulk request: {reason}")
    return attempt


def _send(client: Client, documents: Sequence[Document], attempt: Attempt) -> int:
    """Add the outcomes of these documents. Returns how many were rejected as whole requests with 400."""
    answers, failure = _request(client, documents)
    if failure is None:
        _judge_all(documents, answers, attempt)
        return 0
    status, reason = failure
    if status not in _REQUEST_AT_FAULT:
        attempt.hold(documents, reason)
        return 0
    if len(documents) == 1:
        attempt.refused.append((documents[0], reason))
        return int(status == 400)
    middle = len(documents) // 2
    return _send(client, documents[:middle], attempt) + _send(client, documents[middle:], attempt)


def _judge_all(
    documents: Sequence[Document], answers: Sequence[tuple[int, object]], attempt: Attempt
) -> None:
    for document, (status, error) in zip(documents, answers, strict=False):
        verdict = judge(status, error)
        if verdict == "indexed":
            attempt.indexed += 1
        elif verdict == "refused":
            attempt.refused.append((document, describe(error)))
        else:
            attempt.hold([document], f"{status} {describe(error)}")
    if len(answers) < len(documents):
        attempt.hold(documents[len(answers) :], "Elasticsearch left documents of the bulk unanswered")


def _request(
    client: Client, documents: Sequence[Document]
) -> tuple[list[tuple[int, object]], tuple[int, str] | None]:
    """Each document's status and error in order, or the whole request's failure (status 0: no answer)."""
    answers: list[tuple[int, object]] = []
    try:
        for _, answer in streaming_bulk(
            client,
            documents,  # type: ignore[arg-type]  # any type goes, with an expand_action_callback of its own
            expand_action_callback=_action,  # type: ignore[arg-type]
            chunk_size=len(documents),
            max_chunk_bytes=sys.maxsize,
            raise_on_error=False,
            raise_on_exception=False,
            filter_path="items.*.status,items.*.error",
        ):
            item = answer["index"]
            exception = item.get("exception")
            if exception is not None:
                return [], (_status(exception), f"{item['status']} {_description(exception)}")
            answers.append((item["status"], item.get("error")))
    except TransportError as error:
        return [], (0, f"{type(error).__name__}: {error.message}"[:_REASON_CHARACTERS])
    except (KeyError, TypeError) as error:
        return [], (
            0,
            f"the answer is not of Elasticsearch's bulk API ({type(error).__name__}: {error}); check elasticsearch.url",
        )
    return answers, None


def _action(document: Document) -> tuple[dict[str, Any], bytes]:
    return {"index": {"_index": document.index_name, "_id": document.id}}, document.body


def _status(error: ApiError) -> int:
    # A 200 from something that isn't Elasticsearch comes as an ApiError too; that's no document's fault.
    return error.status_code if error.status_code >= 400 else 0


def _description(error: ApiError) -> str:
    body = error.body
    return describe(body.get("error", body) if isinstance(body, Mapping) else f"{error.message} {body}")
