"""The Beam worker that runs a local job's Python functions in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import wraps
from typing import Any


def end_with_the_runner() -> None:
    """Let the worker's data channels end when the runner of a finished job cancels them.

    The runner (Flink, in the JVM) cancels the data stream, "Multiplexer hanging up", and closes the control stream.
    Where the worker notices the first before the second, Beam takes the end of the job for a fault, and its reader
    thread ends with a traceback. With this the channel is closed instead; a bundle that still waits for input fails as
    before ("Channel closed prematurely"), and so does every other fault of the stream.
    """
    from apache_beam.runners.worker import data_plane

    channel: Any = data_plane._GrpcDataChannel
    if hasattr(channel.set_inputs, "__wrapped__"):  # this process has had a job before
        return
    set_inputs = channel.set_inputs

    @wraps(set_inputs)
    def set_inputs_until_cancelled(self: Any, elements: Iterable[Any]) -> None:
        set_inputs(self, _until_cancelled(elements))

    channel.set_inputs = set_inputs_until_cancelled


def _until_cancelled(elements: Iterable[Any]) -> Iterator[Any]:
    import grpc

    try:
        yield from elements
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
