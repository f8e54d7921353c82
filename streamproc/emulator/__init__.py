"""A PagerDuty to test and to show against: strict Events API v2, signed webhooks v3, faults on demand."""
