"""Whether the Grafana dashboards are true: their queries as Elasticsearch searches, and what is wrong with them."""
