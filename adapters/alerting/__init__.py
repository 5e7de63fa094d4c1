"""Alerts to Alertmanager and webhooks."""
