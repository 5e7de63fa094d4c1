"""Builders, servers and fakes that several tests share."""
