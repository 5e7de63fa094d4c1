"""Any sequence of what can happen to a log, against a model that only knows what was written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support.examples import examples
from tests.support.shipping import MAX_LINE_BYTES, ShipWorld

bodies = st.one_of(
    st.binary(max_size=40).map(lambda body: body.replace(b"\n", b"~")),  # invalid UTF-8 among it
    st.integers(1, MAX_LINE_BYTES + 200).map(lambda size: b"x" * size),
)
ends = st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b"\n\r\n\n"])


class ShippedLog(RuleBasedStateMachine):
    """Numbered lines go into a log that is rotated in every way; the shipper comes, waits and dies."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world: ShipWorld
        self.number = 0
        self.written: list[bytes] = []
        self.unfinished: list[bytes] = []
        self.overlong = 0
        self.half = b""
        self.restarts = 0

    @initialize(named=st.sampled_from([("access.log",), ("access.log*",)]))
    def begin(self, named: tuple[str, ...]) -> None:
        self.world = ShipWorld(Path(self.folder.name), named)
        self.world.write(b"")
        self.world.step()  # what was rotated before the first start is not shipped

    @rule(body=bodies, end=ends)
    def write_a_line(self, body: bytes, end: bytes) -> None:
        line = self.half or self._numbered(body)
        rest = line[len(line) // 2 :] if self.half else line
        self.half = b""
        self.world.write(rest + end)
        if len(line) + len(end) - len(end.lstrip(b"\r")) > MAX_LINE_BYTES:
            self.overlong += 1
        else:
            self.written.append(line.removesuffix(b"\r"))

    @precondition(lambda self: not self.half)
    @rule(body=bodies)
    def write_half_a_line(self, body: bytes) -> None:
        self.half = self._numbered(body)
        self.world.write(self.half[: len(self.half) // 2])

    @rule(compress=st.booleans())
    def rotate_by_rename(self, compress: bool) -> None:
        self._half_ends()
        self.world.rotate_by_rename()
        if compress:
            self.world.compress(1)

    @rule(compress=st.booleans())
    def rotate_by_copy(self, compress: bool) -> None:
        self._half_ends()
        self.world.rotate_by_copy()
        if compress:
            self.world.compress(1)

    @precondition(lambda self: self.world.rotations())
    @rule(data=st.data())
    def compress(self, data: st.DataObject) -> None:
        self.world.compress(data.draw(st.sampled_from(self.world.rotations())))

    @rule(room=st.integers(0, 6), times=st.integers(1, 12))
    def ship(self, room: int, times: int) -> None:
        for _ in range(times):
            self.world.step(room)
        assert len(self.world.flying) <= max(room, self.world.most_held)

    @rule(count=st.integers(1, 8))
    def kafka_acknowledges(self, count: int) -> None:
        self.world.acknowledge(count)

    @rule(seconds=st.sampled_from([0.5, 3, 20]))
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(lost_answers=st.integers(0, 3))
    def restart(self, lost_answers: int) -> None:
        self.restarts += 1
        self.world.restart(lost_answers=lost_answers)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.drain()
                self._check()
            finally:
                self.world.follower.close()
        self.folder.cleanup()

    def _check(self) -> None:
        arrived = list(dict.fromkeys(self.world.arrived))
        assert set(self.written) <= set(arrived), "a line is lost"
        whole = set(self.written)
        assert [line for line in arrived if line in whole] == self.written, "the order has changed"
        assert set(arrived) - whole <= set(self.unfinished), "something arrived that nobody wrote"
        assert set(self.unfinished) <= set(arrived), "the unfinished end of a file is lost"
        assert len(set(self.world.letters)) == self.overlong, "not each overlong line is one dead letter"
        if not self.restarts:
            assert len(arrived) == len(self.world.arrived), "a line was sent twice without need"

    def _numbered(self, body: bytes) -> bytes:
        self.number += 1
        return b"%06d " % self.number + body + b" %06d" % self.number

    def _half_ends(self) -> None:
        if self.half:
            self.unfinished.append(self.half[: len(self.half) // 2])
            self.half = b""


TestShippedLog = ShippedLog.TestCase
TestShippedLog.settings = settings(
    max_examples=examples(150),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
