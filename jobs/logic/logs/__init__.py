"""Services' log records."""
