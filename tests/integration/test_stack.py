"""The local stack with real servers."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer
from elasticsearch import Elasticsearch as Client
from tidegate.adapters.kafka import ensure_topics
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.schemas.topics import ACCESS_LOGS


def test_kafka_keeps_what_it_is_given(kafka: Kafka) -> None:
    ensure_topics(kafka, [ACCESS_LOGS])
    producer = Producer(kafka.client_config())
    producer.produce(kafka.topic(ACCESS_LOGS), b"a line")
    assert producer.flush(30) == 0
    consumer = Consumer({**kafka.client_config(), "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([kafka.topic(ACCESS_LOGS)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.value() == b"a line"


def test_elasticsearch_keeps_what_it_is_given(elasticsearch: Elasticsearch) -> None:
    index = f"{elasticsearch.index_prefix}kept"
    with Client(elasticsearch.url) as client:
        client.index(index=index, id="1", document={"requests": 3}, refresh="wait_for")
        assert client.get(index=index, id="1")["_source"] == {"requests": 3}
