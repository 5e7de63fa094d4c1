"""`tidegate demo`: a real gateway under load, what tidegate makes of it, live, and a limit that follows replicas."""

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
        bool, typer.Option("--keep", help="leave everything but the clients up at the end")
    ] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=5, max=3600, help="how long the clients' day lasts")
    ] = 180,
) -> None:
    """Play a day of traffic through a real Envoy, and show each task's metrics seconds after its requests.

    Replicas of one task leave and join meanwhile, and its rate limit in Envoy follows.

    Starts Kafka, Elasticsearch, Flink, Envoy and a dozen pretended models on free loopback ports, in a folder
    of its own, and ends them all again. Exits with 1 when a part fails, a request isn't accounted for or the limit
    doesn't follow, and with 130 when it was interrupted.
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
    """A closed terminal and a polite kill are like Ctrl-C; further ones don't disturb the ending."""
    told = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
