"""The demo: a real Envoy, a dozen tasks behind it, a bounded load, and the live table."""
