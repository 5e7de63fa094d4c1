"""What can go wrong with the local servers."""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """An operation on the local servers failed. The message is for the user: what is wrong, where, what to do."""


class ServerFailed(StackError):
    """A server ended, or did not answer in time, while it was starting."""

    def __init__(self, server: str, what: str, log: Path, last_lines: str) -> None:
        self.server = server
        self.log = log
        self.last_lines = last_lines
        super().__init__(f"{server} {what}. Its log is {log}; the last lines:\n{last_lines}")


class PartMissing(StackError):
    """Something that a server needs isn't installed on this machine."""


class UnknownServer(ValueError):
    """No server has this name. The message lists those that there are."""
