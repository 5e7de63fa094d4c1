"""The local stack's own rules, on small real processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack_servers import DEAF, DIES, NEVER_LISTENS, Program, data_of
from tidegate.schemas.settings import STACK_FILE, Settings, Stack, load
from tidegate.stack import ports, processes, state
from tidegate.stack.errors import ServerFailed, StackError, UnknownServer
from tidegate.stack.local import LocalStack, Phase, PhaseChange, State
from tidegate.stack.processes import ProcessId
from tidegate.stack.server import Place, Server

ONE, TWO = "one", "two"


class Maker:
    """Makes stacks of one state folder, as one `tidegate` after another does; keeps their phase changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes: list[PhaseChange] = []

    def __call__(self, *servers: Server, timeout_seconds: float = 30) -> LocalStack:
        settings = Settings(stack=Stack(state_dir=self.folder, start_timeout_seconds=timeout_seconds))
        return LocalStack(settings, servers or (Program(ONE), Program(TWO)), self.changes.append)

    def phases(self, server: str) -> list[Phase]:
        """What happened to this server, each phase once."""
        return list(dict.fromkeys(change.phase for change in self.changes if change.server == server))

    def process(self, server: str) -> ProcessId:
        """The process of a server that is on record."""
        return state.read(self.folder).servers[server].process


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Maker]:
    maker = Maker(tmp_path / "state")
    yield maker
    known = state.read(maker.folder).servers.values() if (maker.folder / STACK_FILE).exists() else ()
    processes.stop([server.process for server in known], 1)


def states(stack: LocalStack) -> dict[str, State]:
    return {server.name: server.state for server in stack.status()}


def test_up_starts_all_and_down_ends_all(stack: Maker) -> None:
    stack().up()
    assert states(stack()) == {ONE: State.RUNNING, TWO: State.RUNNING}
    stack().down()
    assert states(stack()) == {ONE: State.STOPPED, TWO: State.STOPPED}


def test_up_with_names_starts_only_these(stack: Maker) -> None:
    stack().up([TWO])
    assert states(stack()) == {ONE: State.STOPPED, TWO: State.RUNNING}


def test_up_twice_leaves_what_runs_alone(stack: Maker) -> None:
    stack().up()
    before = stack.process(ONE)
    stack.changes.clear()
    stack().up()
    assert stack.process(ONE) == before
    assert stack.phases(ONE) == [Phase.ALREADY_RUNNING]


def test_up_restarts_what_died_where_it_was_and_nothing_else(stack: Maker) -> None:
    stack().up()
    lived, died, was_at = stack.process(ONE), stack.process(TWO), state.read(stack.folder).ports
    stack().kill(TWO)
    assert states(stack()) == {ONE: State.RUNNING, TWO: State.DEAD}
    stack().up()
    assert states(stack()) == {ONE: State.RUNNING, TWO: State.RUNNING}
    assert stack.process(ONE) == lived
    assert stack.process(TWO) != died
    assert state.read(stack.folder).ports == was_at


def test_a_server_that_dies_at_the_start_shows_its_last_lines_and_its_log(stack: Maker) -> None:
    with pytest.raises(ServerFailed) as failure:
        stack(Program(ONE, DIES)).up()
    log = stack.folder / "logs" / f"{ONE}.log"
    assert "ended with exit code 3" in str(failure.value)
    assert "the disk is on fire" in str(failure.value)
    assert str(log) in str(failure.value)
    assert "the disk is on fire" in log.read_text()
    assert states(stack()) == {ONE: State.STOPPED, TWO: State.STOPPED}


def test_one_failure_leaves_the_ready_ones_up_and_no_half_started_one(stack: Maker) -> None:
    stack(Program(ONE)).up()
    with pytest.raises(ServerFailed, match="is not ready after 1 s: it doesn't listen yet"):
        stack(Program(ONE), Program(TWO, NEVER_LISTENS), timeout_seconds=1).up()
    assert states(stack()) == {ONE: State.RUNNING, TWO: State.STOPPED}
    assert stack.phases(TWO)[-2:] == [Phase.STOPPING, Phase.STOPPED]


def test_a_foreign_process_with_a_recorded_pid_is_not_ended(stack: Maker) -> None:
    """As after a reboot: the file is old, and its pid is now somebody else's."""
    stack().up([ONE])
    mine = stack.process(ONE)
    file = stack.folder / STACK_FILE
    content = json.loads(file.read_text())
    content["servers"][ONE]["process"] |= {"start": "another-boot/4242", "mark": "of another start"}
    file.write_text(json.dumps(content))
    assert states(stack())[ONE] == State.DEAD
    stack().down()
    assert processes.alive(mine)
    processes.stop([mine], 10)


def test_up_after_a_reboot_starts_afresh(stack: Maker) -> None:
    stack().up([ONE])
    first = stack.process(ONE)
    processes.stop([first], 10)  # what a reboot does; the file stays
    stack().up([ONE])
    assert states(stack())[ONE] == State.RUNNING
    assert stack.process(ONE) != first


def test_down_kills_what_does_not_listen(stack: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.stack.local.STOP_PATIENCE_SECONDS", 0.3)
    maker = stack(Program(ONE, DEAF))
    maker.up()
    process = stack.process(ONE)
    maker.down()
    assert not processes.alive(process)
    assert stack.phases(ONE)[-1] == Phase.KILLED


def test_down_without_anything_up_is_no_error(stack: Maker) -> None:
    stack().down()
    assert not stack.folder.exists()


def test_data_stays_after_down_and_goes_with_purge(stack: Maker) -> None:
    stack().up()
    data = data_of(stack.folder / ONE)
    foreign = data_of(stack.folder)
    stack().down()
    assert data.exists()
    stack().down(purge=True)
    assert not data.exists()
    assert not (stack.folder / STACK_FILE).exists()
    assert foreign.exists()


def test_purging_one_leaves_the_other_running_with_its_data(stack: Maker) -> None:
    stack().up()
    gone, kept = data_of(stack.folder / ONE), data_of(stack.folder / TWO)
    stack().down([ONE], purge=True)
    assert not gone.exists()
    assert kept.exists()
    assert states(stack()) == {ONE: State.STOPPED, TWO: State.RUNNING}


def test_leaving_a_stack_ends_only_what_it_started_itself(stack: Maker) -> None:
    stack().up([ONE])
    with stack() as mine:
        mine.up()
        assert states(mine) == {ONE: State.RUNNING, TWO: State.RUNNING}
    assert states(stack()) == {ONE: State.RUNNING, TWO: State.STOPPED}


def test_a_fixed_port_is_used_and_a_taken_one_is_refused(stack: Maker) -> None:
    port = ports.free()
    stack(Program(ONE, port=port)).up()
    assert state.read(stack.folder).ports == {f"{ONE}.clients": port}
    with pytest.raises(StackError, match=rf"port {port} of {TWO} .* is in use by another program"):
        stack(Program(ONE, port=port), Program(TWO, port=port)).up()


def test_ports_differ_and_are_recorded(stack: Maker) -> None:
    stack().up()
    recorded = state.read(stack.folder).ports
    assert set(recorded) == {f"{ONE}.clients", f"{TWO}.clients"}
    assert len(set(recorded.values())) == 2


def test_other_commands_find_the_running_servers_and_no_others(
    stack: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    override = {"stack.state_dir": str(stack.folder)}
    before = load(overrides=override).kafka.bootstrap_servers
    running = stack(Program(ONE))
    running.up()
    address = f"127.0.0.1:{state.read(stack.folder).ports[f'{ONE}.clients']}"
    assert load(overrides=override).kafka.bootstrap_servers == address
    assert running.settings.kafka.bootstrap_servers == address
    running.down()
    assert load(overrides=override).kafka.bootstrap_servers == before


def test_two_ups_at_once_start_each_server_once(stack: Maker) -> None:
    ups = [threading.Thread(target=stack().up) for _ in range(2)]
    for up in ups:
        up.start()
    for up in ups:
        up.join(60)
    assert states(stack()) == {ONE: State.RUNNING, TWO: State.RUNNING}
    phases = [change.phase for change in stack.changes if change.server == ONE]
    assert phases.count(Phase.READY) == 1
    assert phases.count(Phase.ALREADY_RUNNING) == 1


def test_a_second_up_says_that_it_waits_and_gives_up_in_the_end(stack: Maker) -> None:
    with state.lock(stack.folder, 1, lambda: None), pytest.raises(StackError, match="another `tidegate up`"):
        stack(timeout_seconds=0.2).up()
    assert stack.changes[0].phase == Phase.WAITING


def test_a_damaged_state_file_is_reported_with_its_path(stack: Maker) -> None:
    stack.folder.mkdir()
    (stack.folder / STACK_FILE).write_text("{")
    with pytest.raises(StackError, match=STACK_FILE):
        stack().up()
    (stack.folder / STACK_FILE).unlink()


def test_an_unknown_name_is_refused_with_the_known_ones(stack: Maker) -> None:
    with pytest.raises(UnknownServer, match="'three' is not a server; the servers are one, two"):
        stack().up(["three"])


def test_a_server_that_stops_answering_is_not_called_running(stack: Maker) -> None:
    class Silent(Program):
        answering = True

        def problem(self, place: object) -> str | None:
            return None if self.answering else "it hangs"

    server = Silent(ONE)
    running = stack(server)
    running.up()
    server.answering = False
    (found,) = running.status()
    assert (found.state, found.problem) == (State.NOT_ANSWERING, "it hangs")


def test_an_interrupted_up_leaves_nothing_half_started(stack: Maker) -> None:
    def interrupt(change: PhaseChange) -> None:
        if change.phase == Phase.STARTING and change.detail:
            raise KeyboardInterrupt

    settings = Settings(stack=Stack(state_dir=stack.folder))
    started: list[ProcessId] = []

    class Watched(Program):
        def problem(self, place: Place) -> str | None:
            started[:] = [stack.process(ONE)]
            return super().problem(place)

    with pytest.raises(KeyboardInterrupt):
        LocalStack(settings, [Watched(ONE, NEVER_LISTENS)], interrupt).up()
    assert not processes.alive(started[0])
    assert state.read(stack.folder).servers == {}
