"""The Beam worker of a local job: its data channels end with the job's runner, and other faults stay faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tidegate.jobs.python_worker import end_with_the_runner

FINISHED_WITHIN_SECONDS = 60


class Ended(grpc.RpcError):
    """The end of a stream as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def stream(code: grpc.StatusCode) -> Iterator[Any]:
    """A data stream without an element that ends so."""
    raise Ended(code)
    yield


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What threads end with."""
    found: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda ended: found.append(ended.exc_value))
    return found


def ended(code: grpc.StatusCode) -> Any:
    """A data channel whose stream has ended so."""
    from apache_beam.runners.worker.data_plane import _GrpcDataChannel

    end_with_the_runner()
    end_with_the_runner()  # of a second job in the same process
    channel = _GrpcDataChannel()
    before = set(threading.enumerate())
    channel.set_inputs(stream(code))
    channel.wait(FINISHED_WITHIN_SECONDS)
    for thread in set(threading.enumerate()) - before:
        thread.join(FINISHED_WITHIN_SECONDS)
    return channel


def test_a_stream_that_the_runner_cancels_closes_the_channel(faults: list[BaseException | None]) -> None:
    channel = ended(grpc.StatusCode.CANCELLED)
    assert channel._closed
    assert channel._exception is None
    assert faults == []
    with pytest.raises(RuntimeError, match="Channel closed prematurely"):
        next(channel.input_elements("a bundle that waits", ["input"]))


def test_any_other_fault_of_the_stream_is_one(faults: list[BaseException | None]) -> None:
    channel = ended(grpc.StatusCode.UNAVAILABLE)
    assert isinstance(channel._exception, Ended)
    assert [type(fault) for fault in faults] == [Ended]
