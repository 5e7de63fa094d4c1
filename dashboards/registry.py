"""All dashboards, and the paths of their JSON files."""

from __future__ import annotations

from pathlib import Path

from tidegate.dashboards.layout import Page
from tidegate.dashboards.pages import (
    alerts,
    call_statistics,
    department,
    overview,
    pipeline_health,
    rate_limiting,
    raw_logs,
    replica,
    resource_use,
    task,
)

FOLDER = Path(__file__).parent / "json"


def all_pages() -> list[Page]:
    """Every dashboard."""
    modules = (
        overview,
        department,
        task,
        replica,
        rate_limiting,
        resource_use,
        alerts,
        call_statistics,
        raw_logs,
        pipeline_health,
    )
    return [module.page() for module in modules]


def made() -> dict[str, str]:
    """File name to content, of every dashboard."""
    return {f"{page.uid.removeprefix('tidegate-')}.json": page.as_json() for page in all_pages()}


def write(folder: Path = FOLDER) -> list[Path]:
    """Write the dashboards, and remove the files of dashboards that no longer exist."""
    files = made()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in files]
