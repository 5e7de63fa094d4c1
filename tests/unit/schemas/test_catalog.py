"""The task catalog: what a task gets from where, and that a wrong catalog is refused whole, with every place."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.schemas.catalog import CatalogError, ClientLimits, Slo, Task, load, parse

GOOD = """
gateways:
  main: {namespace: istio-ingress}
  other: {labels: {app: other}}
defaults: {headroom: 0.9, qps_per_replica: 5}
departments:
  vision:
    gateway: main
    defaults: {burst_seconds: 2, slo: {p99_ms: 800}}
    tasks:
      chat: {qps_per_replica: 12, owner: team-chat, ceiling_qps: 100}
      embed: {gateway: other, headroom: 1.1, clients: {limit_qps: 3, named: {batch: 1}}}
  search:
    gateway: main
    tasks:
      rank: {}
"""


def test_a_task_has_its_own_then_its_departments_then_the_catalogs_then_our_defaults() -> None:
    tasks = parse(GOOD, "tasks.yaml").tasks
    assert tasks["vision", "chat"] == Task(
        department="vision", name="chat", gateway="main", route="chat", qps_per_replica=12, headroom=0.9,
        floor_qps=1, ceiling_qps=100, burst_seconds=2, owner="team-chat", slo=Slo(p99_ms=800),
        clients=ClientLimits(),
    )  # fmt: skip
    assert tasks["vision", "embed"].gateway == "other"
    assert tasks["vision", "embed"].headroom == 1.1
    assert tasks["vision", "embed"].clients.named == {"batch": 1}
    assert tasks["search", "rank"].qps_per_replica == 5
    assert tasks["search", "rank"].burst_seconds == 1


def test_an_empty_catalog_has_no_tasks() -> None:
    assert parse("", "tasks.yaml").tasks == {}


def task(fields: str) -> str:
    return f"gateways: {{g: {{}}}}\ndepartments: {{d: {{gateway: g, tasks: {{t: {{{fields}}}}}}}}}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (task("qps_per_replica: 0"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: -3"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: .nan"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: .inf"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: 1e12"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: many"), "departments.d.tasks.t.qps_per_replica"),
        (task(""), "departments.d.tasks.t.qps_per_replica: missing"),
        (task("qps_per_replica: 1, headroom: 3"), "departments.d.tasks.t.headroom"),
        (task("qps_per_replica: 1, floor_qps: 5, ceiling_qps: 4"), "ceiling_qps: 4 is below floor_qps, 5"),
        (task("qps_per_replica: 1, burst_seconds: 0.01"), "departments.d.tasks.t.burst_seconds"),
        (task("qps_per_replica: 1, gateway: h"), "gateway: 'h' is not one of gateways (g)"),
        (task("qps_per_replica: 1, slo: {error_rate: 1}"), "departments.d.tasks.t.slo.error_rate"),
        (task("qps_per_replica: 1, qps: 3"), "departments.d.tasks.t.qps"),
        ("departments: {d: {tasks: {t: {qps_per_replica: 1}}}}", "t.gateway: missing"),
        ("departments: {d d: {}}", "departments.d d"),
        ("defaults: {headroom: 1}\ndefaults: {headroom: 2}", "'defaults' stands twice"),
        ("departments: {d: {tasks: {7: {}}}}", "the key 7 is no text"),
        ("departments: [", "not YAML"),
        ("- 1", "the whole"),
        ("a: 2026-99-99", "not YAML"),
        ('a: !!int ""', "not YAML"),
        ('a: !!timestamp "x"', "not YAML"),
        ('a: !!bool "x"', "not YAML"),
        (task("qps_per_replica: yes"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: '12'"), "departments.d.tasks.t.qps_per_replica"),
        (task("qps_per_replica: 1, route: '  '"), "departments.d.tasks.t.route"),
        (task("qps_per_replica: 1, owner: ''"), "departments.d.tasks.t.owner"),
        (task(f"qps_per_replica: 1, owner: 0x{'f' * 4000}"), "departments.d.tasks.t.owner"),
        ("departments: {v: {gateway: nope}}", "departments.v.gateway: 'nope' is not one of gateways"),
        (
            "gateways: {g: {}}\ndefaults: {qps_per_replica: 1}\ndepartments:\n"
            "  a: {gateway: g, tasks: {chat: {}}}\n  b: {gateway: g, tasks: {chat: {}}}",
            "departments.b.tasks.chat.route: 'chat' of gateway 'g' is the route of departments.a.tasks.chat",
        ),
        ("[" * 5000, "not YAML"),
    ],
)  # fmt: skip
def test_a_wrong_catalog_is_refused_with_file_and_field(text: str, place: str) -> None:
    with pytest.raises(CatalogError) as raised:
        parse(text, "tasks.yaml")
    assert str(raised.value).startswith("tasks.yaml: ")
    assert place in str(raised.value)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    text = task("qps_per_replica: 0, headroom: 9, floor_qps: -1")
    with pytest.raises(CatalogError) as raised:
        parse(text, "tasks.yaml")
    assert len(str(raised.value).splitlines()) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"missing\.yaml: can't be read"):
        load(tmp_path / "missing.yaml")


@given(
    st.text(alphabet=st.sampled_from("abdeghpqrstuvw_-: {}[]\n0123456789.&*!'\""), max_size=200) | st.text()
)
def test_whatever_the_text_it_is_a_catalog_or_refused(text: str) -> None:
    with suppress(CatalogError):
        parse(text, "tasks.yaml")


WITH_POLICIES = """
gateways: {g: {}}
defaults:
  qps_per_replica: 5
  autoscaling: {max_replicas: 20, targets: {qps_per_replica: 8}, tolerance: 0.05}
departments:
  d:
    gateway: g
    defaults: {autoscaling: {min_replicas: 2, scale_down: {stabilization_seconds: 60}}}
    tasks:
      plain: {}
      large: {autoscaling: {max_replicas: 40, scale_down: {step_percent: 10}}}
      gpu: {autoscaling: {targets: {gpu_utilization_ratio: 0.7}, tolerance: null}}
"""


def test_a_part_of_an_autoscaling_block_keeps_the_other_defaults() -> None:
    policies = {
        name: task.autoscaling for (_, name), task in parse(WITH_POLICIES, "tasks.yaml").tasks.items()
    }
    plain, large, gpu = policies["plain"], policies["large"], policies["gpu"]
    assert plain is not None
    assert large is not None
    assert gpu is not None
    assert (plain.min_replicas, plain.max_replicas, plain.tolerance) == (2, 20, 0.05)
    assert plain.targets.qps_per_replica == 8
    assert (large.min_replicas, large.max_replicas) == (2, 40)
    assert large.targets == plain.targets
    assert large.scale_down == plain.scale_down.model_copy(update={"step_percent": 10})
    assert plain.scale_down.stabilization_seconds == 60
    assert plain.scale_down.step_percent == 100, "the policy's own default"
    assert gpu.targets.qps_per_replica is None, "targets count whole"
    assert gpu.tolerance == 0.05


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("max_replicas: 40", "max_replicas: 1", "departments.d.tasks.large.autoscaling.the whole"),
        ("max_replicas: 40", "max_replicas: many", "departments.d.tasks.large.autoscaling.max_replicas"),
        ("tolerance: 0.05", "tolerance: 7", "defaults.autoscaling.tolerance"),
        ("min_replicas: 2", "min_replica: 2", "departments.d.defaults.autoscaling.min_replica"),
        ("max_replicas: 20, ", "", "departments.d.tasks.plain.autoscaling.max_replicas: Field required"),
        ("{step_percent: 10}", "3", "departments.d.tasks.large.autoscaling.scale_down"),
    ],
)
def test_a_wrong_part_of_an_autoscaling_block_is_named_with_its_place(
    before: str, after: str, message: str
) -> None:
    with pytest.raises(CatalogError) as error:
        parse(WITH_POLICIES.replace(before, after), "tasks.yaml")
    assert f"tasks.yaml: {message}" in str(error.value)
