"""The page's files: tidegate's own, and uPlot's from its published package."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from importlib import resources

from tidegate.artifacts import coordinates, maven

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PAGE = "index.html"


@dataclass(frozen=True)
class Asset:
    """One file as it is served."""

    content: bytes
    media_type: str


class Assets:
    """All files, read once. Raises ArtifactUnavailable if uPlot can't be resolved."""

    def __init__(self) -> None:
        folder = resources.files("tidegate.ui").joinpath("page")
        self._files = {
            entry.name: _asset(entry.name, entry.read_bytes())
            for entry in folder.iterdir()
            if entry.name.rpartition(".")[2] in _MEDIA_TYPES
        }
        self._files |= {f"uplot/{name}": _asset(name, content) for name, content in _uplot().items()}

    @property
    def page(self) -> Asset:
        """The page itself, the same for every address."""
        return self._files[_PAGE]

    def get(self, name: str) -> Asset | None:
        """A file, or None."""
        return self._files.get(name)


def _asset(name: str, content: bytes) -> Asset:
    return Asset(content, _MEDIA_TYPES[name.rpartition(".")[2]])


def _uplot() -> dict[str, bytes]:
    with zipfile.ZipFile(maven.file(coordinates.UPLOT)) as package:
        return {
            name.rpartition("/")[2]: package.read(name)
            for name in package.namelist()
            if name.endswith(("/dist/uPlot.esm.js", "/dist/uPlot.min.css"))
        }
