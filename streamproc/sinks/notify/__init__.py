"""Notifiers beside PagerDuty."""
