"""Ports on loopback."""

from __future__ import annotations

import random
import socket
from collections.abc import Container

from tidegate.stack.errors import StackError

HOST = "127.0.0.1"
# Below the range from which Linux gives outgoing connections their ports: a port that is free now would
# otherwise be taken by any client before the server binds it.
_RANGE = range(15_000, 32_000)
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def answers(port: int, timeout_seconds: float = 0.5) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((HOST, port), timeout_seconds).close()
    except OSError:
        return False
    return True


def free(taken: Container[int] = ()) -> int:
    """A free port that isn't in `taken`.

    Raises StackError when none is found.
    """
    for _ in range(_TRIES):
        port = random.choice(_RANGE)  # noqa: S311 (so that two stacks starting at once seldom meet)
        if port not in taken and is_free(port):
            return port
    raise StackError(f"no free port found on {HOST} between {_RANGE.start} and {_RANGE.stop - 1}")
