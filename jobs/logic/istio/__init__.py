"""Istio's objects from settings, and back."""
