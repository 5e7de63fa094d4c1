"""A page to look at departments, tasks and replicas without Grafana: `tidegate ui`."""
