"""`python -m tidegate.dashboards [FOLDER]` writes the dashboards' JSON: beside this package, or into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from tidegate.dashboards.registry import FOLDER, write

if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        sys.stdout.write(f"{path}\n")
