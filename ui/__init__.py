"""`tidegate ui`: a page that shows departments, tasks and replicas without Grafana."""
