"""The indexer: Kafka topics to Elasticsearch."""
