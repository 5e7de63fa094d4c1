"""What holds for all tests that run jobs in their own process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """A job with Python functions leaves variables behind with which a command that is started later is no PyFlink."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
