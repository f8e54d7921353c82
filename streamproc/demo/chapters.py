"""What happens in the demo: one function for each story, in seconds of scenario."""

from __future__ import annotations

from datetime import datetime

from streamproc.demo.payloads import Monitor, PromAlert, label_fingerprint
from streamproc.demo.scenario import Chapter, Deed, Scene, Story, Writer

WEST, NORTH = "prod:eu-west-1", "prod:eu-north-1"
HUNG_ON_NODES = ("catalog", "images", "ratings", "reviews", "sessions", "stock")
"""Services that run on the nodes behind the switch."""
PER_WEBHOOK = 80
"""Alerts of one rack, which Alertmanager sends as one group."""


def deploy(writer: Writer) -> None:
    """A bad deploy of payments takes checkout, cart and frontend with it: one page."""
    writer.scenes.append(Scene(0.0, "A bad deploy of payments: checkout, cart and frontend fail after it"))
    began = [
        (0.3, 17.4, "payments", "HighErrorRate", "critical", "34 % of requests fail since deploy 4.12.0"),
        (1.4, 18.4, "checkout", "HighLatency", "error", "p95 is 4.2 s, payments does not answer in time"),
        (2.6, 19.0, "cart", "ErrorBudgetBurn", "error", "burns its error budget 14 times too fast"),
        (3.6, 19.6, "frontend", "HighErrorRate", "critical", "9 % of page views end in an error"),
    ]
    for at, over, service, name, severity, words in began:
        alert = _alert(writer.moment(at), WEST, service, name, severity, words)
        follows = "" if service == "payments" else "payments"
        _once(writer, at, over, "deploy", [alert], awaits="payments", follows=follows)
        writer.tell(at + 6.0, "deploy", [alert], "alertname", "service", "cluster")  # group interval
    pods = [
        _alert(writer.moment(2.0), WEST, "payments", "KubePodCrashLooping", "error", "restarts every 20 s", pod=pod)
        for pod in (f"payments-7d9f-{writer.dice.randrange(16**4):04x}" for _ in range(6))
    ]
    _once(writer, 2.0, 17.0, "deploy", pods, awaits="payments")
    writer.scenes.append(Scene(6.4, "Ada acknowledges in PagerDuty; the webhook comes back, signed"))
    writer.deeds.append(Deed(6.4, "payments", "Ada"))
    writer.scenes.append(Scene(17.0, "The deploy is rolled back: what was broken resolves, one by one"))
    writer.stories.append(
        Story("Bad deploy, four services", WEST, frozenset({"payments", "checkout", "cart", "frontend"}), pages=1)
    )


def disk(writer: Writer) -> None:
    """A disk that fills and empties: one page, then it is held until it stays."""
    writer.scenes.append(Scene(3.0, "A disk flaps: full, fine, full, fine ..."))
    for fires, over in ((3.0, 4.5), (6.0, 7.5), (9.0, 10.5), (15.8, 21.0)):
        alert = _alert(writer.moment(fires), WEST, "reporting", "HostOutOfDiskSpace", "error", "/var/lib is 96 % full")
        _once(writer, fires, over, "disk", [alert], awaits="reporting")
    writer.stories.append(Story("Flapping disk", WEST, frozenset({"reporting"}), pages=1))


def monitors(writer: Writer) -> None:
    """Datadog monitors, re-triggered and out of order: one page and one ticket."""
    search = Monitor(
        4711,
        "Search answers slowly",
        "p95 of search is over 2 s. @webhook-streamproc",
        "avg(last_1m):p95:trace.http.request{service:search} > 2",
        "cluster:eu-west-1,service:search",
        "cluster:eu-west-1,env:prod,service:search,team:search",
    )
    mail = Monitor(
        4712,
        "Mail waits in the queue",
        "More than 10,000 mails wait. @webhook-streamproc",
        "avg(last_5m):avg:mail.queue.length{service:mail} > 10000",
        "cluster:eu-west-1,service:mail",
        "cluster:eu-west-1,env:prod,service:mail,team:office",
        priority="P3",
    )
    writer.scenes.append(Scene(5.0, "Datadog: triggered, re-triggered, no data, and webhooks that come too late"))
    writer.monitor(5.0, search, "Triggered")
    writer.monitor(7.0, search, "Re-Triggered")
    writer.monitor(7.6, search, "Warn", happened=6.0)
    writer.monitor(8.2, mail, "Warn")
    writer.monitor(9.4, search, "No Data")
    writer.monitor(11.0, search, "Recovered", happened=6.6)
    writer.monitor(18.6, search, "Recovered", awaits="search")
    writer.monitor(19.2, mail, "Recovered")
    writer.monitor(19.8, search, "No Data", happened=9.8)
    writer.stories += [
        Story("Datadog, out of order", WEST, frozenset({"search"}), pages=1),
        Story("Datadog, a warning", WEST, frozenset({"mail"}), pages=0),
    ]


def spoiled(writer: Writer) -> None:
    """One alert that nobody can read: a dead letter; its neighbour in the webhook passes."""
    writer.scenes.append(Scene(10.0, "One alert of a webhook cannot be read: a dead letter, its neighbour passes"))
    good = _alert(writer.moment(10.0), WEST, "vpn", "CertificateExpiresSoon", "warning", "expires in 6 days")
    bad = good.written() | {"labels": "alertname=CertificateExpiresSoon service=vpn"}
    writer.tell(10.0, "vpn", [good], "alertname", "service", "cluster", spoiled=[bad])
    writer.tell(19.0, "vpn", [good.ended(writer.moment(19.0))], "alertname", "service", "cluster")
    writer.stories.append(Story("A warning", WEST, frozenset({"vpn"}), pages=0))


def switch(writer: Writer) -> None:
    """A network switch dies, and everything behind it says so: one page."""
    writer.scenes.append(Scene(12.0, f"A switch dies in eu-north-1: {writer.storm:,} alerts, and each comes twice"))
    root = _alert(writer.moment(12.0), NORTH, "network", "SwitchDown", "critical", "core-sw-2 answers nothing")
    _once(writer, 12.0, 20.4, "storm", [root], awaits="network")
    racks = [
        _rack(writer, number, min(PER_WEBHOOK, writer.storm - 1 - first))
        for number, first in enumerate(range(0, writer.storm - 1, PER_WEBHOOK))
    ]
    step = 2.4 / len(racks) if racks else 0.0
    for number, rack in enumerate(racks):
        fires, over = 12.6 + number * step, 20.6 + number * step
        ended = [alert.ended(writer.moment(over)) for alert in rack]
        writer.tell(fires, "storm", rack, "cluster", "rack", follows="network")
        writer.tell(over, "storm", ended, "cluster", "rack", awaits="network")
    writer.mishap = 13.6
    writer.scenes.append(Scene(16.6, "Grace acknowledges the storm: one page for all of it"))
    writer.deeds.append(Deed(16.6, "network", "Grace"))
    writer.scenes.append(Scene(20.4, "The switch is back: the storm resolves"))
    behind = frozenset({"network", "nodes", *HUNG_ON_NODES})
    writer.stories.append(Story(f"Storm of {writer.storm:,} alerts", NORTH, behind, pages=1))


CHAPTERS: tuple[Chapter, ...] = (deploy, disk, monitors, spoiled, switch)


def _once(
    writer: Writer, fires: float, over: float, lane: str, alerts: list[PromAlert], *, awaits: str, follows: str = ""
) -> None:
    """Have a group fire, and resolve once people have heard of the trouble of a service."""
    by = ("alertname", "service", "cluster")
    writer.tell(fires, lane, alerts, *by, follows=follows)
    writer.tell(over, lane, [alert.ended(writer.moment(over)) for alert in alerts], *by, awaits=awaits)


def _rack(writer: Writer, number: int, size: int) -> list[PromAlert]:
    """Return what one rack of nodes says when its network is gone."""
    began, rack = writer.moment(12.1), f"r{number:02d}"
    found = []
    for at in range(size):
        node = f"ip-10-{40 + number}-0-{10 + at // 8}"
        if at % 8 == 0:
            found.append(
                _alert(began, NORTH, "nodes", "KubeNodeNotReady", "error", "is not ready", node=node, rack=rack)
            )
            continue
        service = writer.dice.choice(HUNG_ON_NODES)
        name, words = writer.dice.choice((("KubePodNotReady", "is not ready"), ("TargetDown", "is not scraped")))
        pod = f"{service}-{writer.dice.randrange(16**6):06x}-{at:02d}"
        found.append(_alert(began, NORTH, service, name, "warning", words, pod=pod, node=node, rack=rack))
    return found


def _alert(starts: datetime, scope: str, service: str, name: str, severity: str, words: str, **more: str) -> PromAlert:
    environment, _, cluster = scope.partition(":")
    labels = {"alertname": name, "environment": environment, "cluster": cluster, "service": service}
    labels |= {"severity": severity, "team": TEAMS.get(service, "platform"), "prometheus": "monitoring/k8s", **more}
    what = more.get("pod") or (more.get("node") if service == "nodes" else "") or service
    return PromAlert(
        labels=labels,
        summary=f"{what} {words}" if more else words,
        description=f"{name} of {what} in {cluster}: {words}.",
        expr=f'{name}{{service="{service}"}} > 0',
        starts_at=starts,
        fingerprint=label_fingerprint(labels),
    )


TEAMS = {
    "payments": "payments",
    "checkout": "shop",
    "cart": "shop",
    "frontend": "shop",
    "reporting": "data",
    "vpn": "office",
}
"""Team by service; the platform team has the rest."""
