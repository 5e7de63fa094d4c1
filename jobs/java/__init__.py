"""The Java sources of the Flink functions that run once per request; `tidegate.jobs.functions` compiles them."""
