"""Rows and logs read back for people."""
