"""Access logs over the network, into Kafka: Envoy's gRPC access log service and OTLP logs."""
