"""The watcher: ready replicas and gateways into Kafka."""
