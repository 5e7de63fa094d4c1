"""The Kubernetes API: the client, and objects read and applied."""
