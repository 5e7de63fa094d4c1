"""Commands that describe tidegate itself."""
