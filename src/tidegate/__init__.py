"""Service metrics from an Envoy or Istio access log within seconds, and rate limits that follow ready replicas."""
