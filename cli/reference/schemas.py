"""`tidegate schemas`: JSON Schema files for consumers in other languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed


def schemas(
    out: Annotated[Path, typer.Option("--out", help="folder for the files; created if it is missing")],
) -> None:
    """Write the JSON Schema of every topic's messages, one file per topic."""
    from tidegate.schemas.json_schema import file_name, topic_schema
    from tidegate.schemas.topics import ALL_TOPICS

    try:
        out.mkdir(parents=True, exist_ok=True)
        for topic in ALL_TOPICS:
            path = out / file_name(topic)
            path.write_text(json.dumps(topic_schema(topic), indent=2, sort_keys=True) + "\n")
            typer.echo(str(path))
    except OSError as error:
        raise CommandFailed(f"--out {out}: {error.strerror}; give a writable folder") from error
