"""`python .ci/changelog_section.py VERSION` prints what CHANGELOG.md has about a version.

Ends with 1 where it has nothing, or where pyproject.toml is of another version.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def section(changelog: str, version: str) -> str:
    """The section's text without its heading. Raises ValueError where there is none, or an empty one."""
    parts = re.split(r"(?m)^## \[?([^\]\s]+)\]?.*$", changelog)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = sections.get(version, "").strip()
    if not found:
        raise ValueError(
            f"CHANGELOG.md has no section of {version}; add `## {version} - DATE` with its changes"
        )
    return found + "\n"


def main(version: str) -> int:
    """Print the section; gives the exit code."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if version != declared:
        sys.stderr.write(f"the tag is of {version}, pyproject.toml of {declared}; change one of them\n")
        return 1
    try:
        sys.stdout.write(section((ROOT / "CHANGELOG.md").read_text(), version))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python .ci/changelog_section.py VERSION")
    sys.exit(main(sys.argv[1]))
