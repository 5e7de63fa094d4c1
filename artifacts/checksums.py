"""SHA-256 of every Java artifact that tidegate uses, so that a damaged or replaced file is never run.

The sums are in `checksums.txt`, one `SHA-256  COORDINATE` per line. After a change of `coordinates.py`, regenerate them
on a machine whose Maven cache you trust: `python -m tidegate.artifacts.checksums > artifacts/checksums.txt`.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib import resources
from pathlib import Path

FILE = "checksums.txt"


@functools.cache
def pinned() -> dict[str, str]:
    """Coordinate to SHA-256, in hexadecimal."""
    lines = resources.files("tidegate.artifacts").joinpath(FILE).read_text().splitlines()
    return {coordinate: checksum for checksum, coordinate in (line.split() for line in lines)}


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Print the checksum of every artifact, resolved without verification."""
    from tidegate.artifacts import coordinates, maven  # noqa: PLC0415 (maven checks with this module)

    parts = maven.resolve(*coordinates.KAFKA)
    for text in (
        coordinates.FLINK_KAFKA_CONNECTOR,
        coordinates.RE2J,
        coordinates.ELASTICSEARCH,
        coordinates.UPLOT,
    ):
        parts |= maven.resolve(text, transitive=False)
    for coordinate in sorted(parts):
        sys.stdout.write(f"{checksum(parts[coordinate])}  {coordinate}\n")


if __name__ == "__main__":
    main()
