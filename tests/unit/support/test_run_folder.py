"""The folder of a test run: its servers outlive any process of the run but the last, and nothing outlives that."""

from __future__ import annotations

import subprocess
import sys

from tests.support.run_folder import REPOSITORY, RunFolder
from tidegate.stack import processes, state

MEMBER = """
import sys, time
from pathlib import Path
from tests.support.run_folder import RunFolder
from tests.support.stack_servers import Program

stack = RunFolder(Path(sys.argv[1])).stack("shared")
stack.add(Program("model"))
stack.up(["model"])
print("up", flush=True)
time.sleep(600)
"""


def test_the_servers_end_after_the_last_process_of_the_run_though_it_is_killed() -> None:
    run = RunFolder.create()
    members = [
        subprocess.Popen(
            (sys.executable, "-c", MEMBER, str(run.path)), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for member in members:
        assert member.stdout is not None
        assert member.stdout.readline() == "up\n"
    (server,) = state.read(run.path / "shared").servers.values()
    kill(members[0])
    run.leave()
    assert processes.alive(server.process), "the other process still needs it"
    kill(members[1])
    run.wait_until_removed()
    assert not processes.alive(server.process)


def test_a_run_without_servers_leaves_no_folder() -> None:
    run = RunFolder.create()
    run.leave()
    run.wait_until_removed()
    assert not run.path.exists()


def kill(member: subprocess.Popen[str]) -> None:
    """As a crash."""
    member.kill()
    member.wait(20)
    assert member.stdout is not None
    member.stdout.close()
