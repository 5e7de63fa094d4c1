"""Autoscaling signals for KEDA and Prometheus."""
