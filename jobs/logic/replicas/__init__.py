"""A task's ready replicas, and when a change has settled."""
