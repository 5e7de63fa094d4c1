"""A topic's indices built anew from Kafka."""
