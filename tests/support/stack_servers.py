"""Small real servers for tests of the local stack: Python processes that behave well or badly."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.stack.ports import HOST, answers
from tidegate.stack.processes import Launch
from tidegate.stack.server import Place, UsualFolder

LISTEN = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    listener.accept()[0].close()
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTEN
DIES = "import sys; print('first line'); print('the disk is on fire', file=sys.stderr); sys.exit(3)"
NEVER_LISTENS = "print('thinking', flush=True); import time; time.sleep(600)"
LEAVES_A_CHILD = (
    "import subprocess, sys, time\n"
    f"subprocess.Popen([sys.executable, '-c', {LISTEN!r}, sys.argv[1]])\n"
    "time.sleep(600)\n"
)


class Program(UsualFolder):
    """A Python program that gets its port as the first argument, ready when it listens there."""

    def __init__(self, name: str, code: str = LISTEN, port: int = 0) -> None:
        self.name = name
        self._code = code
        self._port = port

    @property
    def ports(self) -> Mapping[str, int]:
        return {"clients": self._port}

    def prepare(self, place: Place) -> Launch:
        return Launch((sys.executable, "-c", self._code, str(place.ports["clients"])), place.folder)

    def problem(self, place: Place) -> str | None:
        return None if answers(place.ports["clients"]) else "it doesn't listen yet"

    def addresses(self, place: Place) -> dict[str, str]:
        return {"clients": f"{HOST}:{place.ports['clients']}"}

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        return {"kafka": {"bootstrap_servers": f"{HOST}:{place.ports['clients']}"}}


def data_of(folder: Path) -> Path:
    """A file as a server leaves it in its folder."""
    path = folder / "data"
    path.write_text("kept")
    return path
