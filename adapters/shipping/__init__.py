"""The log shipper and replay: files into Kafka."""
