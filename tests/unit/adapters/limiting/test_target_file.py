"""The target envoy-file without an Envoy: fencing, one-step replacement, and files as others leave them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import until
from tidegate.adapters.limiting.targets.base import TargetFailed
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget, in_all, limits_of, put
from tidegate.jobs.logic.limits.envoy_limits import FILTER, Limit, TaskKey, with_limit
from tidegate.jobs.logic.limits.rate_limits import TokenBucket

GATEWAY = "vision-gateway"
CHAT = TaskKey("vision", "chat")


def limit(task: str = "chat", revision: int = 1, qps: int = 10, route: str | None = None) -> Limit:
    return Limit(TaskKey("vision", task), route or task, revision, TokenBucket(2 * qps, qps, 1000))


def content_of(*names: str) -> dict[str, Any]:
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"name": name, "x": 1} for name in names]}]
    return {"resources": [{"@type": "RouteConfiguration", "name": "r", "virtual_hosts": hosts}]}


def routes(content: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["resources"][0]["virtual_hosts"][0]["routes"]
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    one = tmp_path / "routes.json"
    one.write_text(json.dumps(content_of("chat", "ocr", "embed")))
    return one


def target(path: Path, *admins: str) -> EnvoyFileTarget:
    return EnvoyFileTarget({GATEWAY: path}, {GATEWAY: admins} if admins else {})


def test_what_is_written_is_read_and_the_rest_of_the_file_stays(path: Path) -> None:
    assert target(path).write(GATEWAY, [limit("chat"), limit("ocr", 2)]) == {}
    assert target(path).read(GATEWAY) == {one.key: one for one in (limit("chat"), limit("ocr", 2))}
    content = json.loads(path.read_text())
    for route in routes(content):
        route.pop("metadata", None), route.pop("typed_per_filter_config", None)
    assert content == content_of("chat", "ocr", "embed")


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".conf"])
def test_a_yaml_file_stays_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"routes{suffix}"
    path.write_text(
        "# ours\nname: r\nvirtual_hosts:\n- name: all\n  routes:\n  - name: chat\n    timeout: 5s\n"
    )
    assert target(path).write(GATEWAY, [limit()]) == {}
    assert target(path).read(GATEWAY) == {CHAT: limit()}
    content = yaml.safe_load(path.read_text())
    assert content["virtual_hosts"][0]["routes"][0]["timeout"] == "5s"
    assert not path.read_text().startswith("{")


def test_a_file_that_has_all_of_it_is_left_alone(path: Path) -> None:
    target(path).write(GATEWAY, [limit()])
    before = path.stat()
    target(path).write(GATEWAY, [limit()])
    assert path.stat() == before


def test_an_older_revision_and_another_limit_of_the_same_one_are_refused(path: Path) -> None:
    target(path).write(GATEWAY, [limit(revision=5)])
    before = path.read_bytes()
    for one in (limit(revision=4), limit(revision=5, qps=99)):
        refused = target(path).write(GATEWAY, [one])
        assert refused[CHAT].revision == 5
    assert path.read_bytes() == before
    refused = target(path).write(GATEWAY, [limit(revision=4), limit("ocr")])
    assert set(refused) == {CHAT}
    assert TaskKey("vision", "ocr") in target(path).read(GATEWAY)


revisions = st.lists(
    st.tuples(st.sampled_from(["chat", "ocr"]), st.integers(1, 6), st.integers(1, 3)), max_size=12
)


@settings(deadline=None)
@given(revisions)
def test_revisions_only_grow_whatever_is_written(writes: list[tuple[str, int, int]]) -> None:
    content = content_of("chat", "ocr")
    held: dict[TaskKey, Limit] = {}
    for task, revision, qps in writes:
        one = limit(task, revision, qps)
        refused, changed = put(content, [one])
        after = limits_of([content])
        before = held.get(one.key)
        if before is None or revision > before.revision:
            assert (refused, changed, after[one.key]) == ({}, True, one)
        else:
            assert not changed
            assert after == held
            assert bool(refused) is (one != before)
        held = after


def test_an_edit_shows_and_only_a_newer_revision_puts_it_right(path: Path) -> None:
    target(path).write(GATEWAY, [limit(revision=3)])
    content = json.loads(path.read_text())
    routes(content)[0]["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
    path.write_text(json.dumps(content))
    assert target(path).read(GATEWAY)[CHAT].bucket.max_tokens == 999
    assert target(path).write(GATEWAY, [limit(revision=3)])[CHAT].revision == 3
    assert target(path).write(GATEWAY, [limit(revision=4)]) == {}
    assert target(path).read(GATEWAY) == {CHAT: limit(revision=4)}


def test_a_route_that_is_not_there_is_refused_without_a_revision(path: Path) -> None:
    refused = target(path).write(GATEWAY, [limit("nobody")])
    (why,) = refused.values()
    assert (why.reason, why.revision) == ("the file has no route named 'nobody'", None)


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_task_whose_route_has_changed_the_newest_counts(path: Path, order: int) -> None:
    content = content_of(*["chat", "chat-2"][::order])
    path.write_text(json.dumps(content))
    target(path).write(GATEWAY, [limit(revision=1)])
    target(path).write(GATEWAY, [limit(revision=2, route="chat-2")])
    assert target(path).read(GATEWAY) == {CHAT: limit(revision=2, route="chat-2")}
    assert target(path).write(GATEWAY, [limit(revision=3)]) == {}
    assert target(path).read(GATEWAY) == {CHAT: limit(revision=3)}


def test_a_limit_that_one_of_two_routes_of_its_name_lacks_by_an_edit_is_not_in_force() -> None:
    hosts = [with_limit({"name": "chat"}, limit()), with_limit({"name": "chat"}, limit())]
    content = {"virtual_hosts": [{"routes": [host]} for host in hosts]}
    assert limits_of([content]) == {CHAT: limit()}
    hosts[1]["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
    content = {"virtual_hosts": [{"routes": [host]} for host in hosts]}
    assert limits_of([content]) == {}


def test_in_force_is_what_all_envoys_say() -> None:
    old, new, other = limit(revision=1), limit(revision=2), limit("ocr")
    assert in_all([{CHAT: new, other.key: other}, {CHAT: old, other.key: other}]) == {other.key: other}
    assert in_all([{CHAT: new}, {}]) == {}
    assert in_all([{CHAT: new}]) == {CHAT: new}


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (None, "can't be read"),
        ("", "can't be read"),
        ("{", "can't be read"),
        ('{"resources": [', "can't be read"),
        ("[]", "not a route configuration"),
        ('{"resources": {"a": 1}}', "not a route configuration"),
        ("7", "not a route configuration"),
        ('{"virtual_hosts": 7}', "not a route configuration"),
        ('{"virtual_hosts": ["a"]}', "not a route configuration"),
        ('{"virtual_hosts": [{"routes": ["a"]}]}', "not a route configuration"),
        ('{"resources": "a"}', "not a route configuration"),
    ],
)
def test_a_file_that_cant_be_used_is_reported_with_its_place_and_left_alone(
    path: Path, text: str | None, reported: str
) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    for call in (target(path).read, lambda gateway: target(path).write(gateway, [limit()])):
        with pytest.raises(TargetFailed, match=reported) as failed:
            call(GATEWAY)
        assert str(path) in str(failed.value)
    assert (path.read_text() if path.exists() else None) == text


def test_a_gateway_without_a_file_is_reported_as_such(path: Path) -> None:
    with pytest.raises(TargetFailed, match=r"'other' has no route file; name it in limits\.envoy_files"):
        target(path).read("other")


def test_a_symbolic_link_is_not_replaced(path: Path) -> None:
    link = path.with_name("link.json")
    link.symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(TargetFailed, match=f"symbolic link.*{path}"):
        target(link).write(GATEWAY, [limit()])
    assert link.is_symlink()
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a moment")
def test_a_folder_that_may_not_be_written_is_reported(path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        shutil.copy(path, folder / "routes.json")
        before = (folder / "routes.json").read_bytes()
        os.seteuid(65534)
        try:
            with pytest.raises(TargetFailed, match="its folder can't be written"):
                target(folder / "routes.json").write(GATEWAY, [limit()])
        finally:
            os.seteuid(0)
        assert [one.name for one in folder.iterdir()] == ["routes.json"]
        assert (folder / "routes.json").read_bytes() == before
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_the_new_file_has_the_old_ones_owner_and_mode(path: Path) -> None:
    os.chown(path, 65534, 65533)
    path.chmod(0o640)
    target(path).write(GATEWAY, [limit()])
    now = path.stat()
    assert (now.st_uid, now.st_gid, now.st_mode & 0o777) == (65534, 65533, 0o640)


def test_a_reader_never_sees_half_a_file(path: Path) -> None:
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while not stop.is_set():
            json.loads(path.read_text())
            reads += 1
        return reads

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        for revision in range(1, 100):
            target(path).write(GATEWAY, [limit(revision=revision)])
        stop.set()
        assert reading.result() > 10


def test_writers_of_one_file_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    tasks = [f"task-{number}" for number in range(8)]
    path.write_text(json.dumps(content_of(*tasks)))

    def write(task: str) -> None:
        for revision in range(1, 20):
            assert target(path).write(GATEWAY, [limit(task, revision)]) == {}

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, tasks))
    assert {one.revision for one in target(path).read(GATEWAY).values()} == {19}
    assert len(target(path).read(GATEWAY)) == 8
    assert {one.name for one in tmp_path.iterdir()} == {"routes.json", ".routes.json.lock"}


def test_an_edit_of_the_platform_in_the_middle_of_a_write_is_kept(path: Path) -> None:
    """It takes no lock: it replaces the file again and again while we write."""
    stop = threading.Event()

    def platform() -> int:
        number = 0
        while not stop.is_set():
            number += 1
            content = json.loads(path.read_text())
            content["edit"] = number
            draft = path.with_name("platform")
            draft.write_text(json.dumps(content))
            draft.replace(path)
            # Nobody may take it back; a moment is enough for any write that began before.
            time.sleep(0.05)
            assert json.loads(path.read_text())["edit"] == number
        return number

    with ThreadPoolExecutor(1) as threads:
        editing = threads.submit(platform)
        for revision in range(1, 60):
            target(path).write(GATEWAY, [limit("ocr", revision)])
            time.sleep(0.003)
        stop.set()
        assert editing.result() > 3


def test_a_lock_that_another_one_holds_is_reported_and_not_waited_for_for_ever(path: Path) -> None:
    before = path.read_bytes()
    with path.with_name(".routes.json.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        started = time.monotonic()
        with pytest.raises(TargetFailed, match="another process has held the lock for over 2 s"):
            target(path).write(GATEWAY, [limit()])
        assert time.monotonic() - started < 30
        assert target(path).read(GATEWAY) == {}, "reading needs no lock"
    assert path.read_bytes() == before
    assert target(path).write(GATEWAY, [limit()]) == {}


class Admin:
    """An admin page that says what a test wants it to say."""

    def __init__(self) -> None:
        self.limits: list[Limit] | None = []
        self.hangs = threading.Event()
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                while outer.hangs.is_set():
                    time.sleep(0.01)
                with suppress(OSError):  # who asked has gone
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(json.dumps(outer.dump()).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def dump(self) -> dict[str, Any]:
        if self.limits is None:
            return {}
        names = [with_limit({"name": one.route}, one) for one in self.limits] or [{"name": "chat"}]
        return {"configs": [{"route_config": {"virtual_hosts": [{"routes": names}]}}]}


@pytest.fixture
def admins() -> Iterator[tuple[Admin, Admin]]:
    both = Admin(), Admin()
    try:
        yield both
    finally:
        for one in both:
            one.hangs.clear()
            one.server.shutdown()
            one.server.server_close()


def test_an_envoy_that_is_away_hangs_or_has_no_routes_yet_leaves_it_to_the_others(
    path: Path, admins: tuple[Admin, Admin]
) -> None:
    first, second = admins
    both = target(path, first.address, second.address)
    first.limits, second.limits = [limit()], []
    assert both.read(GATEWAY) == {}, "only one of them has it"
    second.limits = None
    assert both.read(GATEWAY) == {CHAT: limit()}
    second.hangs.set()
    assert both.read(GATEWAY) == {CHAT: limit()}
    started = time.monotonic()
    for _ in range(5):
        assert both.read(GATEWAY) == {CHAT: limit()}
    print(f"five reads beside a hung Envoy: {time.monotonic() - started:.2f} s")  # noqa: T201
    second.hangs.clear()
    second.limits = []
    until(lambda: both.read(GATEWAY) == {}, "it counts again")
    away = target(path, first.address, "127.0.0.1:1")
    assert away.read(GATEWAY) == {CHAT: limit()}


def test_when_no_envoy_answers_nothing_is_known(path: Path, admins: tuple[Admin, Admin]) -> None:
    target(path).write(GATEWAY, [limit()])
    with pytest.raises(TargetFailed, match=r"no Envoy of gateway 'vision-gateway' answers at 127\.0\.0\.1:1"):
        target(path, "127.0.0.1:1").read(GATEWAY)
    admins[0].limits = None
    with pytest.raises(TargetFailed, match="it has no routes"):
        target(path, admins[0].address).read(GATEWAY)
