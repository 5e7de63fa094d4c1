"""The example consumer and the manifests keep the rules that the docs give."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import yaml

from tests.support.paths import ROOT

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples" / "scale_from_topic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signals(**fields: Any) -> dict[str, Any]:
    values = {
        "id": "vision/chat",
        "desired_replicas": 4,
        "computed_at": "2026-11-24T09:59:59.000Z",
        "valid_until": "2026-11-24T10:01:00.000Z",
        "revision": 2,
    }
    return values | fields


def test_a_signal_is_followed_once_and_only_while_it_holds() -> None:
    decision, done = example().decision, dict[str, tuple[str, int]]()
    assert decision(signals(), done, NOW) == 4
    assert decision(signals(), done, NOW) is None, "the same revision is no news"
    older = signals(revision=1, desired_replicas=9, computed_at="2026-11-24T09:00:00.000Z")
    assert decision(older, done, NOW) is None
    unknown = signals(revision=3, desired_replicas=None, computed_at="2026-11-24T10:00:00.000Z")
    assert decision(unknown, done, NOW) is None
    over = signals(revision=4, computed_at="2026-11-24T10:00:01.000Z", valid_until="2026-11-24T09:59:59.999Z")
    assert decision(over, done, NOW) is None


def test_the_manifests_name_what_the_scaler_serves() -> None:
    folder = ROOT / "deploy" / "kubernetes" / "autoscaling"
    scaled = yaml.safe_load((folder / "scaledobject.yaml").read_text())
    (trigger,) = scaled["spec"]["triggers"]
    assert {"department", "task", "scalerAddress"} <= trigger["metadata"].keys()
    deployment, service = yaml.safe_load_all((folder / "scaler.yaml").read_text())
    ports = {port["port"] for port in service["spec"]["ports"]}
    assert ports == {9202, 9203}
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    hpa = yaml.safe_load((folder / "hpa.yaml").read_text())
    metric = hpa["spec"]["metrics"][0]["external"]["metric"]["name"]
    assert metric == "tidegate_desired_replicas"
    assert metric in (folder / "prometheus-adapter-rule.yaml").read_text()
