"""The ready-made settings of other shippers fit what tidegate reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tidegate.schemas.settings import Shipper
from tidegate.schemas.topics import ACCESS_LOGS

DEPLOY = Path(__file__).parents[4] / "deploy"
MAX_LINE_BYTES = Shipper().max_line_bytes


def settings(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_filebeat_sends_the_untouched_line_to_the_access_log_topic() -> None:
    config = settings("filebeat/filebeat.yml")
    output = config["output.kafka"]
    assert output["topic"] == ACCESS_LOGS.name
    assert output["codec.format"] == {"string": "%{[message]}"}
    assert "key" not in output
    assert config["processors"] == []
    [source] = config["filebeat.inputs"]
    assert source["type"] == "filestream"
    assert "parsers" not in source


def test_filebeat_loses_no_line_that_tidegate_would_ship() -> None:
    config = settings("filebeat/filebeat.yml")
    [source] = config["filebeat.inputs"]
    assert config["output.kafka"]["required_acks"] == -1
    assert source["message_max_bytes"] >= MAX_LINE_BYTES
    assert config["output.kafka"]["max_message_bytes"] >= MAX_LINE_BYTES
    assert source["prospector.scanner.fingerprint"]["enabled"] is True
    assert not any(path.endswith((".gz", "*")) for path in source["paths"])


def test_vector_sends_the_untouched_line_to_the_access_log_topic() -> None:
    config = settings("vector/vector.yaml")
    [(name, source)] = config["sources"].items()
    [sink] = config["sinks"].values()
    assert source["type"] == "file"
    assert sink["type"] == "kafka"
    assert sink["inputs"] == [name]
    assert sink["topic"] == ACCESS_LOGS.name
    assert sink["encoding"] == {"codec": "text"}
    assert "key_field" not in sink
    assert "transforms" not in config


def test_vector_loses_no_line_that_tidegate_would_ship() -> None:
    config = settings("vector/vector.yaml")
    [source] = config["sources"].values()
    [sink] = config["sinks"].values()
    assert source["read_from"] == "beginning"
    assert source["max_line_bytes"] >= MAX_LINE_BYTES
    assert sink["acknowledgements"] == {"enabled": True}
    assert sink["buffer"]["when_full"] == "block"
    assert sink["message_timeout_ms"] == 0
    options = sink["librdkafka_options"]
    assert all(isinstance(value, str) for value in options.values())
    assert int(options["message.max.bytes"]) >= MAX_LINE_BYTES


def test_both_say_where_they_follow_the_same_file() -> None:
    [filebeat] = settings("filebeat/filebeat.yml")["filebeat.inputs"]
    [vector] = settings("vector/vector.yaml")["sources"].values()
    assert filebeat["paths"] == vector["include"]
