"""Starts the real servers (Kafka, Elasticsearch, Flink, Envoy) on one machine, without Docker."""
