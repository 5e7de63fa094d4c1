"""Grafana dashboards of tidegate's rows, as Python that makes their JSON."""
