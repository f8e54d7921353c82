"""The HTTP edge: alerts and webhooks in, health, metrics, the operations API and a status page."""
