"""Our open incidents beside PagerDuty's: what differs, and what is to be done about it. Pure."""
