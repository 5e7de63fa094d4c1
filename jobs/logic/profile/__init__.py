"""A task's profile: traffic, capacity, outliers, autoscaling."""
