"""Everything that touches the world outside Flink: files, Kafka clients, Elasticsearch."""
