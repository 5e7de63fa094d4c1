"""The rate-limit controller."""
