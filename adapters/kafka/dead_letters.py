"""Dead letters into Kafka, written once the brokers acknowledge them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from confluent_kafka import KafkaError, Message, Producer

from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.settings import Kafka

_MESSAGE_TIMEOUT_MS = 20_000


class DeadLetterWriter:
    """A producer of dead letters, with acks from all replicas."""

    def __init__(self, kafka: Kafka) -> None:
        self.topic = kafka.topic(topics.DEAD_LETTERS)
        self._config = kafka.client_config()
        self._opened: Producer | None = None

    @property
    def _producer(self) -> Producer:
        """Created with the first letter: most instances never write one."""
        if self._opened is None:
            self._opened = Producer(
                {
                    **self._config,
                    "client.id": "tidegate-indexer",
                    "enable.idempotence": True,
                    "message.timeout.ms": _MESSAGE_TIMEOUT_MS,
                    "linger.ms": 5,
                    "reconnect.backoff.ms": 500,
                }
            )
        return self._opened

    def write(self, letters: Sequence[DeadLetter]) -> tuple[list[DeadLetter], str]:
        """Write letters. Returns those that no broker acknowledged, and the reason. Takes at most some 25 s."""
        reasons: dict[str, str] = {letter.id: "no answer from Kafka" for letter in letters}
        for letter in letters:
            on_delivery = partial(_delivered, reasons, letter.id)
            value = letter.model_dump_json().encode()
            while True:
                try:
                    self._producer.produce(self.topic, value=value, on_delivery=on_delivery)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.flush(_MESSAGE_TIMEOUT_MS / 1000 + 5)
        left = [letter for letter in letters if letter.id in reasons]
        return left, next(iter(reasons.values()), "")


def _delivered(reasons: dict[str, str], letter_id: str, error: KafkaError | None, _: Message) -> None:
    if error is None:
        reasons.pop(letter_id, None)
    else:
        reasons[letter_id] = error.str()
