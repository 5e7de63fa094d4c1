"""KEDA's external scaler service: the .proto file, and what protoc makes of it (see CONTRIBUTING.md)."""
