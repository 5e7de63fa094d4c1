"""Commands that run and keep Flink jobs."""
