"""streamproc: an event-driven stream processor between monitoring and PagerDuty."""

__version__ = "0.1.0"
