"""Where decisions go: PagerDuty, and a notifier for when PagerDuty does not answer."""
