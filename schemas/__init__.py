"""The words of the system: topics, one model per topic's row, settings, Elasticsearch templates."""
