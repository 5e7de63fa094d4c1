"""Prometheus' remote-write messages: the .proto files, and what protoc makes of them (see CONTRIBUTING.md)."""
