"""The demo's error."""

from __future__ import annotations


class DemoFailed(Exception):
    """A component of the demo failed. The message is for the user: what, where, and the last lines of its log."""
