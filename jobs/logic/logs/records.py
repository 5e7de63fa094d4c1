"""Joins lines of a service's log into records: a message and the stack trace below it are one record. Pure.

A line continues the record above it if it is empty or indented, or one that Python, Java or Go write within a trace
without an indent. Each line of a container's log (CRI: time, stream, tag, text) is read without that prefix; there a
record also ends where the stream changes, and a line with tag P continues in the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CRI = re.compile(rb"(?P<time>\d{4}-\d\d-\d\dT\S{8,35}) (?P<stream>stdout|stderr) (?P<tag>[FP])(?: |$)")
_TRACEBACK = b"Traceback (most recent call last):"
_GOES_ON = (
    _TRACEBACK,
    b"Caused by:",
    b"Suppressed:",
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
    b"... ",
    b"goroutine ",
)
_CLOSING = b"})]"
_EXCEPTION = re.compile(
    rb"(?:[A-Za-z_$][\w$]*\.)*[A-Z][\w$]*(?:Exception|Error|Throwable|Interrupt|Exit)(?::|$)"
)
"""A Java exception's or a Python error's own line."""
_GO_FRAME = re.compile(rb"[\w./*()-]+\.[\w.*()-]+\(.*\)$|created by |panic: |\[signal ")


@dataclass(frozen=True)
class Prefix:
    """The container runtime's prefix of a line. partial: the line continues in the next one."""

    time: bytes
    stream: str
    partial: bool


def without_prefix(line: bytes) -> tuple[Prefix | None, bytes]:
    """A line's prefix, None without one, and the rest."""
    found = _CRI.match(line)
    if found is None:
        return None, line
    return Prefix(found["time"], found["stream"].decode(), found["tag"] == b"P"), line[found.end() :]


class RecordJoiner:
    """Decides for each line of a log, in order, whether it begins a record."""

    def __init__(self) -> None:
        self._any = False
        self._stream: str | None = None
        self._partial = False
        self._in_traceback = False
        self._in_go = False
        self._blank = False

    def begins(self, line: bytes) -> bool:
        """Whether the next line, without its line end, begins a record."""
        prefix, text = without_prefix(line)
        stream = None if prefix is None else prefix.stream
        other = stream != self._stream
        goes_on = self._any and not other and (self._partial or self._goes_on(text))
        self._any, self._stream = True, stream
        self._partial = prefix is not None and prefix.partial
        self._remember(text, begins=not goes_on)
        return not goes_on

    def _goes_on(self, text: bytes) -> bool:
        if not text.strip() or text[:1] in (b" ", b"\t") or text.startswith(_GOES_ON):
            return True
        if len(text.strip()) <= 2 and text[:1] in _CLOSING:
            return True
        if self._in_traceback:
            return True  # the error itself, which ends the trace
        if self._in_go and _GO_FRAME.match(text):
            return True
        return not self._blank and _EXCEPTION.match(text) is not None

    def _remember(self, text: bytes, *, begins: bool) -> None:
        indented = text[:1] in (b" ", b"\t")
        if text.startswith(_TRACEBACK):
            self._in_traceback = True
        elif text.strip() and not indented:
            self._in_traceback = False
        if text.startswith((b"panic: ", b"goroutine ", b"fatal error: ")):
            self._in_go = True
        elif begins:
            self._in_go = False
        self._blank = not text.strip()


def records_of(block: bytes) -> list[bytes]:
    """The records of a block that begins with one, each verbatim, without its line end.

    Records of empty lines only are left out.
    """
    return [record for record in (part.strip(b"\r\n") for part in _parts(block)) if record.strip()]


def _parts(block: bytes) -> Iterator[bytes]:
    joiner, begin, at = RecordJoiner(), 0, 0
    while at < len(block):
        newline = block.find(b"\n", at)
        end = len(block) if newline < 0 else newline + 1
        if joiner.begins(block[at:end].rstrip(b"\r\n")) and at > begin:
            yield block[begin:at]
            begin = at
        at = end
    if begin < len(block):
        yield block[begin:]


def text_of(record: bytes) -> tuple[Prefix | None, bytes]:
    """A record's first prefix, None without one, and its text without prefixes, lines joined by LF."""
    first: Prefix | None = None
    texts: list[bytes] = []
    goes_on = False
    for line in record.split(b"\n"):
        prefix, text = without_prefix(line.removesuffix(b"\r"))
        first = first or prefix
        if goes_on:
            texts[-1] += text
        else:
            texts.append(text)
        goes_on = prefix is not None and prefix.partial
    return first, b"\n".join(texts).rstrip()
