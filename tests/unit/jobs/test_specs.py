"""The jobs' specs: what each says of its job is so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tidegate.cli.jobs.launch import HISTORIES
from tidegate.jobs import alerts, specs, task_profile
from tidegate.jobs.specs import JOBS, JobSpec
from tidegate.schemas import topics


@pytest.mark.parametrize("spec", JOBS.values(), ids=lambda spec: spec.name)
def test_a_jobs_module_has_its_name_its_options_and_its_main(spec: JobSpec) -> None:
    module = spec.module()
    assert spec.name == module.NAME
    assert all(isinstance(option, str) for pair in module.OPTIONS.items() for option in pair)
    assert callable(module.main)


def test_who_goes_on_from_a_history_has_a_reader_of_it() -> None:
    assert set(HISTORIES) == {spec for spec in JOBS.values() if spec.with_history}


def test_a_job_reads_the_topics_of_its_inputs() -> None:
    assert set(specs.TASK_PROFILE.reads) == {one.topic for one in task_profile.INPUTS.values()}
    assert set(specs.ALERTS.reads) == {one.topic for one in alerts.INPUTS.values()}


def test_the_topics_that_are_made_are_all_of_ours_and_those_of_others_that_a_job_reads() -> None:
    assert specs.needed_topics() == (*topics.ALL_TOPICS, topics.PROMETHEUS_METRICS)


def test_the_commands_know_the_jobs_without_pyflink() -> None:
    code = "import sys, tidegate.cli.jobs.launch, tidegate.cli.jobs.keep; sys.exit('pyflink' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
