"""The HTTP service in front of Kubernetes and Istio."""
