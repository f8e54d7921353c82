"""streamproc beside another route to PagerDuty: what that one paged, set against what we would have paged."""
