"""Grafana dashboards of tidegate's rows, as Python code that generates their JSON."""
