"""`tidegate demo`: a real gateway under load, with live metrics and a limit that follows its replicas."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options


def demo(
    context: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave everything but the clients running at the end")
    ] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=5, max=3600, help="length of the simulated day")
    ] = 180,
) -> None:
    """Send a simulated day of traffic through a real Envoy, and show each task's metrics within seconds.

    Meanwhile replicas of one task leave and join, and its rate limit in Envoy follows.

    Starts Kafka, Elasticsearch, Flink, Envoy and a dozen simulated models on free loopback ports, in its own folder,
    and stops them all at the end. Exits with 1 if a component fails, a request isn't accounted for or the limit doesn't
    follow, and with 130 if it is interrupted.
    """
    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.artifacts.maven import ArtifactUnavailable
    from tidegate.demo import run
    from tidegate.demo.failure import DemoFailed
    from tidegate.demo.progress import Progress, console_for_people
    from tidegate.stack.errors import StackError

    options: Options = context.obj
    settings = options.load()
    plan = run.Plan(seconds=seconds, keep=keep)
    progress = Progress(console_for_people())
    try:
        with _ends_cleanly():
            run.verdict(run.play(settings, plan, progress))
    except (DemoFailed, StackError, ArtifactUnavailable, KafkaUnavailable) as error:
        raise CommandFailed(str(error)) from error


@contextmanager
def _ends_cleanly() -> Iterator[None]:
    """Handles SIGHUP and SIGTERM like Ctrl-C, and ignores further signals during the shutdown."""
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
