"""Processes are recognised for good, and ended whole."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.support.stack_servers import DEAF, LEAVES_A_CHILD, LISTEN
from tests.support.waiting import until
from tidegate.stack import ports, processes
from tidegate.stack.errors import StackError
from tidegate.stack.processes import Launch, ProcessId

PATIENCE_SECONDS = 10


class Starter:
    """Starts programs; the test's end ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[ProcessId] = []

    def __call__(self, code: str, wait_for_port: bool = True) -> ProcessId:
        port = ports.free()
        launch = Launch((sys.executable, "-c", code, str(port)), self._folder)
        process = processes.start(launch, self._folder / "log", f"mark{len(self.started)}")
        self.started.append(process)
        if wait_for_port:
            until(lambda: ports.answers(port))
        return process


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    processes.stop(starter.started, 0.1)


def test_a_process_lives_until_it_is_stopped(start: Starter) -> None:
    process = start(LISTEN)
    assert processes.alive(process)
    assert processes.memory_bytes(process) > 0
    assert processes.stop([process], PATIENCE_SECONDS) == []
    assert not processes.alive(process)


def test_another_process_with_the_same_pid_is_not_it(start: Starter) -> None:
    process = start(LISTEN)
    earlier = replace(process, start="another-boot/1", mark="another")
    assert not processes.alive(earlier)
    assert processes.memory_bytes(earlier) == 0
    processes.stop([earlier], PATIENCE_SECONDS)
    assert processes.alive(process)


def test_one_that_ignores_the_request_is_killed(start: Starter) -> None:
    process = start(DEAF)
    assert processes.stop([process], 0.3) == [process]
    assert not processes.alive(process)


def test_a_child_goes_with_its_parent(start: Starter) -> None:
    process = start(LEAVES_A_CHILD)
    assert len(processes.members(process)) == 2
    processes.stop([process], PATIENCE_SECONDS)
    assert processes.members(process) == []


def test_a_child_that_a_dead_parent_left_is_found_and_ended(start: Starter) -> None:
    process = start(LEAVES_A_CHILD)
    (child,) = [member for member in processes.members(process) if member.pid != process.pid]
    psutil.Process(process.pid).send_signal(signal.SIGKILL)
    until(lambda: not processes.alive(process))
    assert processes.members(process) == [child]
    assert processes.members(replace(process, mark="another start's")) == []
    processes.stop([process], PATIENCE_SECONDS)
    assert processes.members(process) == []


def test_the_exit_code_is_reported_once(start: Starter) -> None:
    process = start("import sys; sys.exit(7)", wait_for_port=False)
    codes: list[int] = []

    def has_ended() -> bool:
        code = processes.ended(process)
        codes.extend([] if code is None else [code])
        return bool(codes)

    until(has_ended)
    assert codes == [7]
    assert processes.ended(process) is None


def test_settings_that_may_be_secrets_stay_out_of_a_server(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA__SASL_PASSWORD", "hush")
    process = start("import os; print(sorted(os.environ), flush=True)", wait_for_port=False)
    until(lambda: not processes.alive(process))
    log = (tmp_path / "log").read_text()
    assert "SASL" not in log
    assert processes.MARK_VARIABLE in log


def test_the_log_of_the_start_before_is_kept(start: Starter, tmp_path: Path) -> None:
    for word in ("one", "two"):
        process = start(f"print({word!r})", wait_for_port=False)
        until(lambda process=process: not processes.alive(process))  # type: ignore[misc]
    assert (tmp_path / "log").read_text() == "two\n"
    assert processes.older(tmp_path / "log").read_text() == "one\n"


def test_a_program_that_is_not_there_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="/no/such/program"):
        processes.start(Launch(("/no/such/program",), tmp_path), tmp_path / "log", "mark")


def test_the_last_lines_of_a_log_are_readable_whatever_is_in_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\n".join(b"line %d" % number for number in range(100)) + b"\n\xff\xfe last")
    last = processes.last_lines(log, count=2)
    assert last.splitlines()[0] == "line 99"
    assert last.endswith(" last")
    assert processes.last_lines(tmp_path / "none") == "(no log)"


def test_stack_frames_do_not_push_the_reason_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("the reason\n" + "\tat java.lang.Thread.run(Thread.java)\n" * 100 + "\t... 7 more\nbye\n")
    assert processes.last_lines(log, count=2) == "the reason\nbye"
