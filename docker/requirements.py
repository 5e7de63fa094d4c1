"""What an image installs: `python requirements.py PYPROJECT EXTRA...` prints the requirements, one a line.

An image's layer of other people's packages depends on these lines and on `requirements/pinned.txt`, and not on
tidegate's own code: a change of the code doesn't download Flink again.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_OWN_EXTRAS = re.compile(r"tidegate\[([a-z0-9, -]+)\]")


def requirements(project: Mapping[str, Sequence[str]], extras: Sequence[str]) -> Iterator[str]:
    """Those of these extras, and of the extras that they name. Raises KeyError for one that there isn't."""
    for extra in extras:
        for line in project[extra]:
            if own := _OWN_EXTRAS.fullmatch(line):
                yield from requirements(project, [name.strip() for name in own[1].split(",")])
            else:
                yield line


def main(pyproject: str, *extras: str) -> None:
    """Print them, with those of every role."""
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    found = [*project["dependencies"], *requirements(project["optional-dependencies"], extras)]
    sys.stdout.write("".join(f"{line}\n" for line in sorted(set(found))))


if __name__ == "__main__":
    main(*sys.argv[1:])
