"""To which severity a rule is taken down that shall not page. Pure."""

from __future__ import annotations

from streamproc.events.alert import Severity
from streamproc.settings import Settings


def quiet_severity(settings: Settings) -> Severity | None:
    """Return the worst severity that makes a ticket and never pages, else one that says nothing; None for none."""
    worst_first = sorted(Severity, key=lambda each: -each.rank)
    silent = [each for each in worst_first if each not in settings.escalate.page]
    tickets = [each for each in silent if each in settings.escalate.ticket]
    return next(iter((*tickets, *silent)), None)


def outcome(severity: Severity, settings: Settings) -> str:
    """Return what becomes of an alert of a severity that does not page, in words."""
    return "Make a ticket" if severity in settings.escalate.ticket else "Say nothing"
