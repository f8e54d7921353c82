"""Words that tell an incident's category, as they stand in the names of public alert rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from streamproc.services import Category


def _told(text: str) -> frozenset[str]:
    return frozenset(text.split())


VOCABULARY: dict[Category, frozenset[str]] = {
    "security": _told("""
        attack auth authentication brute certificate cert credential credentials cve ddos exploit firewall forbidden
        fraud intrusion login malware password permission secret security ssl suspicious threat tls unauthorized
        violation vault vulnerability waf
    """),
    "infrastructure": _told("""
        cluster cpu daemonset dhcp disk dns etcd fan fd filesystem host hypervisor inode inodes instance interface
        kernel kube kubelet kubernetes load memory network nic node ntp oom packet ping power raid ram smart storage
        swap switch temperature volume
    """),
    "application": _told("""
        4xx 5xx apdex api app application backlog cache consumer crash deadlock deploy deployment endpoint error errors
        exception exceptions failed failure grpc heap http job jvm lag latency queue query replication request requests
        response rollout service slow timeout
    """),
    "business": _told("""
        basket billing booking bookings cart checkout conversion customer customers invoice order orders payment
        payments payout purchase purchases refund refunds revenue sales signup signups subscription transactions
    """),
}
"""In order of precedence: where two categories have equally many words, the first one is it."""


def categorise(words: Collection[str], more: Mapping[Category, frozenset[str]]) -> Category | None:
    """Return the category that most of the words tell, or None where none of them tells any.

    Args:
        words: words of a text, in lower case.
        more: further words that tell a category.
    """
    nothing: frozenset[str] = frozenset()
    read = frozenset(words)
    counts = {category: len(read & (told | more.get(category, nothing))) for category, told in VOCABULARY.items()}
    most = max(counts, key=lambda category: counts[category])
    return most if counts[most] else None
