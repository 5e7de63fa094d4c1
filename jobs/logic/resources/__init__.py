"""Resource samples into windows."""
