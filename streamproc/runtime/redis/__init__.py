"""What Redis is used for: an account's budget of requests, open incidents at once after a start, bodies of versions.

Only this package knows redis-py. Nothing here is needed: whatever is kept in Redis can be lost at any moment.
"""
