"""The messages of Envoy's access log service that are read: the .proto file, and what protoc makes of it."""
