"""One trace from a webhook to the page on a real broker, and one that a producer began."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from streamproc.distributed import apply_topics, both
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.topology import TOPICS, TOPOLOGY
from tests.embedded.pipelines import body
from tests.kafka.exact import rest
from tests.service.standing import KEYS, now_alert, pagerduty, settings_of, until
from tests.support.collector import Seen, collecting

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

WITHIN = 120.0
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PRODUCER = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NODES = ("normalise", "deduplicate", "decide", "deliver", "send trigger", "deliver")


def chain(spans: list[Seen], trace: str) -> tuple[str, ...]:
    """Return the names of the spans that lead to a page, each the parent of the next."""
    by_id = {span.span_id: span for span in spans if span.trace_id == trace.split("-")[1]}
    ends = [one for one in by_id.values() if "deliver/delivered" in one.attributes.get("streamproc.reasons", ())]
    found: list[Seen] = ends[:1]
    while found and found[0].parent_id in by_id:
        found.insert(0, by_id[found[0].parent_id])
    return tuple(span.name for span in found)


async def test_one_trace_leads_over_every_topic(config: Config, tmp_path: Path) -> None:
    kafka = {"prefix": config.prefix, "replication": 1, "production": False, "bootstrap": config.bootstrap}
    with collecting() as collector:
        async with pagerduty() as (emulator, url):
            settings = settings_of(url, tmp_path, kafka=kafka, traces={"endpoint": collector.url})
            await apply_topics(settings)
            async with both(settings, armed=True) as running, httpx.AsyncClient(base_url=running.url) as http:
                # Whoever comes before the arming is paged by it, and that begins a trace of its own.
                await rest(settings.kafka, TOPOLOGY, WITHIN)
                posted = body(now_alert("Down", "db"))
                taken = await http.post("/v1/ingest/alertmanager", content=posted, headers={"traceparent": CALLER})
                assert taken.status_code == 202
                inlet = KafkaInlet(settings.kafka, TOPICS, SystemClock())
                headers = {"source": b"alertmanager", "traceparent": PRODUCER.encode()}
                await inlet.append([Entry("alerts.raw", b"", body(now_alert("Slow", "web")), headers)])
                await inlet.stop()
                await until(lambda: all(chain(collector.spans, trace) for trace in (CALLER, PRODUCER)))
        assert chain(collector.spans, CALLER) == ("POST /v1/ingest/{source}", *NODES)
        assert chain(collector.spans, PRODUCER) == NODES
        assert {alert.routing_key for alert in emulator.account.alerts.values()} == {KEYS["default"]}
