"""Log files to Kafka: the shipper that follows growing files, and the replay of finished ones."""
