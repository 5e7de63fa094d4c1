"""Commands for replicas, rate limits and the task catalog."""
