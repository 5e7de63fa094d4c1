"""Grafana dashboards of tidegate's rows: what makes them, and what checks them."""
