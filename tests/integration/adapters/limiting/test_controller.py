"""The controller as a process on a real Kafka: leads alone, goes on where one ended, takes the catalog's word."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.kafka_messages import messages
from tests.support.limit_rows import gateway_row, replicas_row
from tests.support.limit_world import GATEWAY, QPS, Watch, World, catalog_text, now_ms
from tests.support.waiting import until
from tidegate.jobs.logic.catalog_rows import rows_of
from tidegate.schemas import catalog as catalogs
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import TaskRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import from_epoch_ms
from tidegate.stack.processes import clean_environment

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def world(kafka: Kafka, tmp_path: Path) -> Iterator[World]:
    """One task, nothing said yet."""
    one = World(kafka, tmp_path)
    try:
        yield one
    finally:
        one.end()


def ready(world: World, replicas: int = 4) -> None:
    world.publish_counts(replicas=replicas)
    world.change(replicas)


def test_a_limit_is_decided_applied_and_published(world: World) -> None:
    ready(world)
    controller = world.controller()
    world.until_applied(40)
    world.change(2)
    world.until_applied(20)
    assert world.reported() == [
        ("decided", 1, 40),
        ("applied", 1, 40),
        ("decided", 2, 20),
        ("applied", 2, 20),
    ]
    assert world.qps_in_file() == 20
    assert controller.end() == 0


def test_a_controller_that_starts_in_silence_holds_and_says_so(kafka: Kafka, tmp_path: Path) -> None:
    """What the sources said last is long ago: there is nothing in their topics to wait for."""
    world = World(kafka, tmp_path, limits="silent_seconds = 2")
    try:
        long_ago = now_ms() - 3_600_000
        world.put_raw(topics.REPLICAS, "vision/chat", replicas_row(long_ago, 4).model_dump_json(), long_ago)
        world.put_raw(topics.GATEWAYS, GATEWAY, gateway_row(long_ago, 1).model_dump_json(), long_ago)
        world.change(4)
        controller = world.controller()
        until(lambda: [row.state for row in world.rows()] == ["held"], "the silence is reported")
        assert "has sent no heartbeat yet" in world.rows()[0].reason
        world.publish_counts()
        world.until_applied(40)
        assert controller.end() == 0
    finally:
        world.end()


def test_the_leader_is_killed_in_the_middle_of_changes_and_the_other_goes_on(world: World) -> None:
    ready(world)
    first = world.controller()
    world.until_applied(40)
    second = world.controller(leads=False)
    with Watch(world) as watch:
        counts = [30 - number for number in range(30)]
        for number, count in enumerate(counts):
            world.change(count)
            if number == len(counts) // 2:
                first.kill()
            time.sleep(0.05)
        until(lambda: world.qps_in_file() == counts[-1] * QPS, "the newest change is in force")
        world.until_applied(counts[-1] * QPS)
    assert second.leads()
    revisions = [limit.revision for limit in watch.seen]
    assert all(before < after for before, after in pairwise(revisions)), revisions
    rows = world.rows()
    decided: dict[int, float | None] = {}
    for row in rows:
        if row.state == "decided":
            assert decided.setdefault(row.revision, row.limit_qps) == row.limit_qps, "one limit a revision"
    assert {limit.revision: round(limit.bucket.qps, 3) for limit in watch.seen}.items() <= decided.items()
    assert rows[-1].change_id == "vision|chat|31"


def test_another_controller_that_comes_takes_nothing_from_the_one_that_leads(world: World) -> None:
    ready(world)
    first = world.controller()
    world.until_applied(40)
    others = [world.controller(leads=False) for _ in range(2)]
    time.sleep(3)  # a rebalance has happened by now
    assert first.text().count("leading; target") == 1
    others[0].end()
    world.change(2)
    world.until_applied(20)
    assert first.text().count("leading; target") == 1
    assert first.end() == 0
    until(others[1].leads, "the other one leads", 15)
    world.change(1)
    world.until_applied(10)


@pytest.mark.slow
def test_a_leader_that_was_frozen_does_no_harm_when_it_wakes(world: World) -> None:
    ready(world)
    first = world.controller()
    world.until_applied(40)
    second = world.controller(leads=False)
    first.send(signal.SIGSTOP)
    world.change(3)
    until(second.leads, "the other one leads", 60)
    world.until_applied(30)
    world.change(1)
    world.until_applied(10)
    with Watch(world) as watch:
        first.send(signal.SIGCONT)
        # What was published in the meantime comes to it all at once, while it may still think that it leads.
        world.change(2)
        world.until_applied(20)
        time.sleep(8)
    revisions = [limit.revision for limit in watch.seen]
    assert all(before < after for before, after in pairwise(revisions)), revisions
    assert world.qps_in_file() == 20
    assert watch.seen[-1].bucket.qps == 20
    assert first.text().count("leading; target") == 1


def test_a_crash_between_deciding_and_applying_is_applied_once_after_the_restart(world: World) -> None:
    ready(world)
    first = world.controller()
    world.until_applied(40)
    lock = world.routes.with_name(f".{world.routes.name}.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        world.change(2)
        until(lambda: world.reported()[-1][:2] == ("decided", 2), "it is decided")
        assert world.qps_in_file() == 40
        first.kill()
    with Watch(world) as watch:
        world.controller()
        world.until_applied(20)
        time.sleep(2)
    assert [limit.revision for limit in watch.seen] in ([1, 2], [2])
    assert world.reported()[2:] == [("decided", 2, 20), ("applied", 2, 20)]


def test_a_file_that_another_process_holds_is_reported_as_failed_and_written_when_it_lets_go(
    world: World,
) -> None:
    ready(world)
    controller = world.controller()
    world.until_applied(40)
    lock = world.routes.with_name(f".{world.routes.name}.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        world.change(2)
        until(lambda: world.reported()[-1][0] == "failed", "it is reported")
        assert "another process has held the lock" in world.rows()[-1].reason
        world.change(1)
        until(lambda: world.reported()[-1][:2] == ("failed", 3), "the newer cut is reported too")
    world.until_applied(10, timeout_seconds=20)
    states = [row.state for row in world.rows()]
    assert states == ["decided", "applied", "decided", "failed", "decided", "failed", "applied"]
    assert controller.end() == 0


def test_a_wrong_catalog_is_refused_with_its_reason_and_the_last_good_one_stays(world: World) -> None:
    ready(world)
    controller = world.controller()
    world.until_applied(40)
    for value in ("0", "-5", ".nan", ".inf", "1.0e+9", "'12'", "yes"):
        before = controller.text().count("the catalog is refused")
        world.write_catalog({"chat": f"qps_per_replica: {value}"})
        until(
            lambda before=before: controller.text().count("the catalog is refused") == before + 1,  # type: ignore[misc]
            f"{value} is refused",
        )
        assert "departments.vision.tasks.chat.qps_per_replica" in controller.text().rpartition("refused")[2]
    world.catalog.write_text("departments: [")
    until(lambda: "not YAML" in controller.text(), "what is no YAML is refused")
    world.catalog.unlink()
    until(lambda: "can't be read" in controller.text(), "a file that is gone is refused")
    world.change(2)
    world.until_applied(20)
    world.write_catalog({"chat": "qps_per_replica: 7"})
    world.until_applied(14)
    assert controller.end() == 0


def test_the_catalog_of_the_topic_counts_at_once_and_its_wrong_rows_dont(world: World) -> None:
    def say(entry: str) -> None:
        catalog = catalogs.parse(catalog_text({"chat": entry}), "test")
        for row in rows_of(catalog, from_epoch_ms(now_ms())):
            world.put(topics.TASKS, row.id, row)
        world.flush()

    say(f"qps_per_replica: {QPS:g}")
    config = world.config
    world.config = lambda name="tidegate.toml": without_catalog(config(name))  # type: ignore[method-assign]
    ready(world)
    controller = world.controller()
    world.until_applied(40)
    say("qps_per_replica: 5")
    world.until_applied(20)
    (good,) = [one.value() for one in messages(world.kafka, topics.TASKS)][-1:]
    assert good is not None
    for wrong in (b"0.0", b"-1.0", b"NaN", b"1e12", b"null"):
        bad = good.replace(b'"qps_per_replica":5.0', b'"qps_per_replica":' + wrong)
        assert bad != good
        world.put_raw(topics.TASKS, "vision/chat", bad)
    world.flush()
    stranger = TaskRow.model_validate_json(good).model_copy(update={"id": "vision/other"})
    world.put(topics.TASKS, "vision/chat", stranger)
    world.flush()
    until(lambda: controller.text().count("is not a valid TaskRow") == 5, "five rows are refused")
    until(lambda: "the catalog's row is refused" in controller.text(), "the stranger is refused")
    world.change(2)
    world.until_applied(10)
    assert controller.end() == 0


OTHER_TESTS_TOPIC = re.compile(r"t[0-9a-f]{8}\.")


def topic_names(kafka: Kafka) -> set[str]:
    """All topics but those of other tests, which run at the same time."""
    names = AdminClient({**kafka.client_config()}).list_topics(timeout=30).topics
    return {
        name for name in names if name.startswith(kafka.topic_prefix) or not OTHER_TESTS_TOPIC.match(name)
    }


def without_catalog(path: Path) -> Path:
    text = path.read_text()
    path.write_text(text[: text.index("[catalog]")] + text[text.index("[limits]") :])
    return path


def test_pause_and_override_of_operators_count_at_once_and_can_be_taken_back(world: World) -> None:
    ready(world)
    world.controller()
    world.until_applied(40)
    world.control(paused=True)
    until(lambda: world.reported()[-1][0] == "held", "the pause is reported")
    world.change(1)
    time.sleep(1)
    assert world.qps_in_file() == 40
    world.put(topics.LIMIT_CONTROLS, "vision/chat", None)
    world.flush()
    world.until_applied(10)
    world.control("*", override_qps=25.0, expires_at=from_epoch_ms(now_ms() + 2_000))
    world.until_applied(25)
    world.until_applied(10)


def test_a_dry_run_shows_and_writes_nothing(world: World) -> None:
    ready(world)
    before = world.routes.read_bytes()
    names = topic_names(world.kafka)
    with subprocess.Popen(
        world.command("--dry-run"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment()
    ) as shown:
        assert shown.stdout is not None
        lines = [shown.stdout.readline() for _ in range(2)]
        shown.terminate()
        assert shown.wait(20) == 0
    assert b'"state":"decided"' in lines[0]
    assert b'"state":"applied"' in lines[1]
    assert b"dry run" in lines[1]
    assert world.routes.read_bytes() == before
    assert [one.name for one in world.routes.parent.iterdir()] == [world.routes.name]
    assert world.rows() == []
    assert world.current() is None
    assert topic_names(world.kafka) == names


def test_a_dry_run_makes_no_topic(world: World) -> None:
    empty = world.kafka.model_copy(update={"topic_prefix": world.kafka.topic_prefix + "none."})
    text = world.config().read_text().replace(world.kafka.topic_prefix, empty.topic_prefix)
    config = world.folder / "other.toml"
    config.write_text(text)
    world.config = lambda name="tidegate.toml": config  # type: ignore[method-assign]
    explained = world.run("--explain", "chat")
    assert explained.returncode == 0, explained.stderr
    assert "ready replicas: unknown" in explained.stdout
    assert not [name for name in topic_names(world.kafka) if name.startswith(empty.topic_prefix)]


def test_explain_says_numbers_and_events_also_while_the_gateway_is_away(world: World) -> None:
    ready(world)
    controller = world.controller()
    world.until_applied(40)
    world.change(2)
    world.until_applied(20)
    for name in ("chat", "vision/chat"):
        said = world.run("--explain", name)
        assert said.returncode == 0, said.stderr
        for part in (
            "2 x 10 x 1 = 20 qps, / 1 gateways = 20 a gateway",
            "in force: 20 qps a gateway, burst 20, revision 2",
            "by change vision|chat|2",
            "cut from 40 to 20",
            "last published: applied, revision 2",
            "now: hold, the limit is up to date",
        ):
            assert part in said.stdout, said.stdout
    world.routes.rename(world.routes.with_suffix(".gone"))
    said = world.run("--explain", "chat")
    assert said.returncode == 0, said.stderr
    assert f"gateway {GATEWAY} is unreachable" in said.stdout
    assert "2 x 10 x 1 = 20 qps" in said.stdout
    unknown = world.run("--explain", "nobody")
    assert unknown.returncode == 1
    assert "not in the catalog" in unknown.stderr
    world.routes.with_suffix(".gone").rename(world.routes)
    assert controller.end() == 0
