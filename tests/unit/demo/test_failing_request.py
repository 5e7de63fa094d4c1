"""Which request the demo looks up: the newest one that a replica failed."""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.lines import at, line
from tidegate.demo import failing_request
from tidegate.demo import workspace as workspaces
from tidegate.demo.failure import DemoFailed
from tidegate.demo.scenario import DEMO
from tidegate.demo.workspace import Workspace
from tidegate.schemas.settings import Settings, Stack
from tidegate.schemas.timestamps import to_text

END = datetime.fromisoformat(at(30))
END_MS = round(END.timestamp() * 1000)


@dataclass(frozen=True)
class WithCommand(Workspace):
    """With another program in the place of `tidegate`."""

    program: Path = Path()

    @property
    def command(self) -> tuple[str, ...]:
        return (str(self.program),)


def workspace(folder: Path, lines: list[str], program: str = 'print(" ".join(sys.argv[1:]))') -> Workspace:
    made = workspaces.prepare(Settings(stack=Stack(state_dir=folder)), DEMO)
    made.access_log.parent.mkdir(parents=True)
    made.access_log.write_text("\n".join(lines))
    script = folder / "tidegate"
    script.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return WithCommand(made.folder, made.settings, script)


def failed(request_id: str, **fields: object) -> str:
    return line(
        **{"request_id": request_id, "response_code": 503, "response_code_details": "via_upstream"} | fields
    )


def test_it_is_the_newest_that_a_replica_failed(tmp_path: Path) -> None:
    lines = [
        failed("older"),
        failed("newest"),
        failed("of-the-closing", start_time=to_text(END)),
        failed("of-the-gateway", response_code_details="no_healthy_upstream"),
        failed("well", response_code=200),
        failed("half-written"),
    ]
    looked_up = failing_request.look_up(workspace(tmp_path, lines), END_MS)
    assert looked_up is not None
    assert looked_up.output == "trace newest\n"
    assert looked_up.command.endswith(" trace newest")


def test_without_a_failure_there_is_nothing_to_look_up(tmp_path: Path) -> None:
    lines = [failed("well", response_code=200), ""]
    assert failing_request.look_up(workspace(tmp_path, lines), END_MS) is None


def test_one_that_is_not_found_fails_the_demo(tmp_path: Path) -> None:
    without = workspace(tmp_path, [failed("newest"), ""], 'sys.exit("nothing is known of it")')
    with pytest.raises(DemoFailed, match=r"trace newest(.|\n)*nothing is known of it"):
        failing_request.look_up(without, END_MS)
