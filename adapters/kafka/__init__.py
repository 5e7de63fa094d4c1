"""Kafka as every adapter uses it: clients, whole topics read back, dead letters."""
