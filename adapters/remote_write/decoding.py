"""Decodes a remote write's body into series: snappy, then protobuf, of version 1.0 or 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cramjam
from google.protobuf.message import DecodeError

from tidegate.adapters.remote_write.proto import remote_write_pb2, remote_write_v2_pb2

V1 = "prometheus.WriteRequest"
V2 = "io.prometheus.write.v2.Request"


class InvalidRemoteWrite(ValueError):
    """A body that is not a valid remote write. The message gives the reason."""


@dataclass(frozen=True)
class Series:
    """One series. pairs: names and values of labels, None where the references to them are invalid.

    histograms, exemplars: their numbers; they are not written.
    """

    pairs: list[tuple[bytes, bytes]] | None
    samples: list[tuple[float, int]]
    histograms: int
    exemplars: int


def size_of(body: bytes) -> int:
    """The decompressed size of a body, from its header. Raises InvalidRemoteWrite."""
    size = shift = 0
    for byte in body[:5]:
        size |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return size
        shift += 7
    raise InvalidRemoteWrite("body: not in snappy's block format")


def series_of(body: bytes, message: str) -> Iterator[Series]:
    """The series of a body. message: V1 or V2. Raises InvalidRemoteWrite."""
    try:
        unpacked = bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise InvalidRemoteWrite(f"body: not in snappy's block format: {error}") from error
    # protoc's classes are created at import: a type checker doesn't see them.
    modules: dict[str, Any] = {V1: remote_write_pb2, V2: remote_write_v2_pb2}
    request = modules[V2].Request() if message == V2 else modules[V1].WriteRequest()
    try:
        request.ParseFromString(unpacked)
    except DecodeError as error:
        raise InvalidRemoteWrite(f"body: not a valid {message}: {error}") from error
    return _of_v2(request) if message == V2 else _of_v1(request)


def _of_v1(request: Any) -> Iterator[Series]:
    for series in request.timeseries:
        yield Series(
            [(label.name, label.value) for label in series.labels],
            [(sample.value, sample.timestamp) for sample in series.samples],
            len(series.histograms),
            len(series.exemplars),
        )


def _of_v2(request: Any) -> Iterator[Series]:
    symbols = list(request.symbols)
    if symbols and symbols[0]:
        raise InvalidRemoteWrite("symbols: the first one must be empty")
    for series in request.timeseries:
        refs = list(series.labels_refs)
        pairs = None
        if len(refs) % 2 == 0 and all(ref < len(symbols) for ref in refs):
            pairs = [
                (symbols[name], symbols[value]) for name, value in zip(refs[::2], refs[1::2], strict=True)
            ]
        yield Series(
            pairs,
            [(sample.value, sample.timestamp) for sample in series.samples],
            len(series.histograms),
            len(series.exemplars),
        )
