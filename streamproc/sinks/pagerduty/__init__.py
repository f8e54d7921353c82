"""PagerDuty Events API v2: the body (encode), what an answer means (verdict), the sending (client)."""
