"""Commands that bring data into Kafka."""
