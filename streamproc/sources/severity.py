"""The severity words of the wild and what they are in PagerDuty's four; docs/sources.md says where each is from."""

from __future__ import annotations

from streamproc.events.alert import Severity

_WORDS = {
    Severity.CRITICAL: (
        "critical crit fatal emergency emerg panic alert disaster blocker severe urgent page pager highest "
        "sev0 sev-0 sev1 sev-1 s0 s1 p0 p1"
    ),
    Severity.ERROR: "error err major high sev2 sev-2 s2 p2",
    Severity.WARNING: "warning warn minor average medium moderate notify ticket sev3 sev-3 s3 p3",
    Severity.INFO: (
        "info information informational notice low lowest verbose debug trace none ok success "
        "sev4 sev-4 sev5 sev-5 s4 s5 p4 p5"
    ),
}
SEVERITIES: dict[str, Severity] = {word: severity for severity, words in _WORDS.items() for word in words.split()}
"""Severity by word, lower case."""
