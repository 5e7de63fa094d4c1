"""Commands for profiles, alerts and autoscaling."""
