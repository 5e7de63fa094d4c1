"""Writes the image's Flink configuration: `python flink_conf.py FOLDER`. Sizes and slots are given at the start."""

from __future__ import annotations

import sys
from pathlib import Path

import pyflink

from tidegate.stack import flink_conf

JOBMANAGER = "flink-jobmanager"
"""The JobManager's name in its network."""
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (in a container; what is published is the compose file's)


def main(folder: Path) -> None:
    """Both processes of a cluster use the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(pyflink.__file__).parent
    options = flink_conf.shared_options(home, Path("/tmp"), sys.executable) | {  # noqa: S108 (a tmpfs of its own)
        "jobmanager.rpc.address": JOBMANAGER,
        "jobmanager.bind-host": _EVERYWHERE,
        "rest.address": JOBMANAGER,
        "rest.bind-address": _EVERYWHERE,
        "taskmanager.bind-host": _EVERYWHERE,
        # Six jobs, each with classes of its own, and those that a restarted JobManager submits anew beside them.
        "taskmanager.memory.jvm-metaspace.size": "512m",
        # Jobs come as graphs by `tidegate submit`; nobody needs to upload a jar that then runs here.
        "web.submit.enable": "false",
        "execution.checkpointing.storage": "filesystem",
    }
    flink_conf.write(folder, options)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
