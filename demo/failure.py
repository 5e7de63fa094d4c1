"""What can go wrong with the demo."""

from __future__ import annotations


class DemoFailed(Exception):
    """A part of the demo failed. The message is for the user: what, where, and the last lines of its log."""
