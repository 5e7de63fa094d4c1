"""Prometheus' remote write into Kafka."""
