"""Metrics of what Redis is used for; all label sets stand from the start."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

Use = Literal["budget", "openings", "cache", "watch"]
"""What Redis is asked for."""
Result = Literal["answered", "failed", "left_alone"]
BUDGETS = ("events", "rest")
SOURCES = ("leased", "alone")
CACHES = ("versions",)
HITS = ("hit_local", "hit_redis", "miss")


class RedisMetrics:
    """What is counted, kept in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge("streamproc_redis_up", "1 where Redis answered when it was last asked.", registry=registry)
        self.requests = Counter(
            "streamproc_redis_requests_total",
            "Requests to Redis by what came of them; after a failure it is left alone for some seconds.",
            ("use", "result"),
            registry=registry,
        )
        self.spent = Counter(
            "streamproc_budget_spent_total",
            "Requests to PagerDuty counted by an account's budget: leased from Redis, or alone.",
            ("budget", "source"),
            registry=registry,
        )
        self.holders = Gauge(
            "streamproc_budget_holders",
            "Processes that share an account's budget, as far as this one knows.",
            ("budget",),
            registry=registry,
        )
        self.cache = Counter(
            "streamproc_cache_requests_total",
            "Bodies asked for, by where they were found.",
            ("cache", "result"),
            registry=registry,
        )
        for use in get_args(Use):
            for result in get_args(Result):
                self.requests.labels(use, result)
        for budget in BUDGETS:
            self.holders.labels(budget)
            for source in SOURCES:
                self.spent.labels(budget, source)
        for cache in CACHES:
            for hit in HITS:
                self.cache.labels(cache, hit)
