"""Ends the servers of a test run once all of its processes have ended: `python -m tests.support.caretaker FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.run_folder import clean_up

if __name__ == "__main__":
    clean_up(Path(sys.argv[1]))
