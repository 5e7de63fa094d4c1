"""Rows as Kafka messages in a job with Python functions: read and checked, or a dead letter; written as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pyflink.common import Row, Types
from pyflink.datastream import OutputTag, ProcessFunction

from tidegate.jobs.kafka_tables import timestamp_text
from tidegate.schemas import dead_letters
from tidegate.schemas.timestamps import from_text
from tidegate.schemas.topics import Topic

if TYPE_CHECKING:
    from pyflink.datastream import DataStream
    from pyflink.table import StreamTableEnvironment

OPTIONS = {
    # Python operators take what has come every so many ms; the default second would be a third of our time.
    "python.fn-execution.bundle.time": "20",
}

KEYED = Types.ROW([Types.STRING(), Types.STRING()])
"""A task's key, `department/task`, and the row's text."""
MESSAGE = Types.ROW_NAMED(["message_key", "message"], [Types.STRING(), Types.STRING()])
"""What a topic's sink takes (kafka_tables.messages_sink)."""
_LETTER = Types.ROW_NAMED(
    ["id", "topic", "partition", "offset", "reason", "excerpt", "seen_at"],
    [
        Types.STRING(),
        Types.STRING(),
        Types.INT(),
        Types.LONG(),
        Types.STRING(),
        Types.STRING(),
        Types.STRING(),
    ],
)
DEAD = OutputTag("dead", _LETTER)
"""The side output of dead letters, in the columns of kafka_tables.dead_letters_table."""


class Read(ProcessFunction):  # type: ignore[misc]
    """A message as KEYED, checked by its row's model; what is not a valid row goes to DEAD, whole."""

    def __init__(self, model: type[BaseModel], topic: str, writer: str) -> None:
        """model: it has `department` and `task`. topic: with its prefix. writer: the job, part of a letter's id."""
        self._model = model
        self._topic = topic
        self._writer = writer

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (message, partition, offset, when Kafka got it)."""
        message, partition, offset, seen_at = value
        try:
            row: Any = self._model.model_validate_json(message or b"")
        except ValidationError as error:
            yield (
                DEAD,
                dead_letter(
                    error_text(error), self._topic, self._writer, message, partition, offset, seen_at
                ),
            )
        else:
            yield Row(f"{row.department}/{row.task}", row.model_dump_json())


def error_text(error: ValidationError) -> str:
    """The first thing that is wrong, beginning with its field."""
    wrong = error.errors(include_url=False)[0]
    place = ".".join(map(str, wrong["loc"])) or "the whole"
    return f"{place}: {wrong['msg']}"


def dead_letter(
    reason: str, topic: str, writer: str, message: bytes | None, partition: int, offset: int, seen_at: str
) -> Row:
    """A letter for DEAD. It was seen when Kafka got the message, so a replay gives the same letter."""
    moment = from_text(seen_at)
    letter = dead_letters.dead_letter(topic, partition, offset, reason, message or b"", writer, moment)
    return Row(*letter.model_dump(mode="json").values())


def messages(environment: StreamTableEnvironment, table: str) -> DataStream:
    """The messages of a table made by kafka_tables.messages_table, as `Read` takes them."""
    return environment.to_data_stream(
        environment.sql_query(
            f"SELECT message, kafka_partition, kafka_offset, {timestamp_text('kafka_time')} FROM {table}"
        )
    )


def rows(
    environment: StreamTableEnvironment,
    table: str,
    topic: Topic,
    prefix: str,
    model: type[BaseModel],
    writer: str,
) -> DataStream:
    """The rows of a topic as KEYED, with the dead letters at `get_side_output(DEAD)`."""
    read = messages(environment, table).process(Read(model, topic.full_name(prefix), writer), KEYED)
    return read.uid(f"{writer}-read").name("Read")
