"""Flink jobs, one module each: source and sink are arguments, `main` only wires them."""
