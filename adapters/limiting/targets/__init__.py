"""Where limits are enforced: one module a target."""
