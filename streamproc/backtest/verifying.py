"""Derives pages again from the recorded inbox of node decide, and compares them with what the log holds. Bit for bit.

What a page was decided on is the slice of one inbox partition up to the record that its reason chain names, and the
versions that its receipt names. Folding that slice says the escalation anew; encoding it says the request anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from streamproc.backtest.recorded import Inboxes
from streamproc.backtest.refold import Refold
from streamproc.core.event import Activated, Why
from streamproc.core.record import Outgoing, Record
from streamproc.core.step import Node
from streamproc.events.escalation import Escalation, Page, PageAction, Receipt, Verdict
from streamproc.sinks.pagerduty.encode import encode
from streamproc.state import INCIDENT
from streamproc.topology import TOPOLOGY

ESCALATION, EPISODE = Escalation.TYPE.encode(), b"episode.v1"
ORIGIN = re.compile(r"(?P<topic>[a-z.]+)/(?P<partition>\d+)/(?P<offset>\d+)")
DELAYED = re.compile(r"said (\d+) min later")
"""How `sinks/pagerduty/encode.py` says that a page is late: with it the body can be made again."""
SECRET = "routing_key"  # noqa: S105  the name of a field
KEPT_OF_KEY = 4
VERSIONS = {"config": "config_version", "catalogue": "catalogue_version", "model": "model_version"}
"""The field of a receipt that names the version of each kind."""
NODES = {node.name: node for node in TOPOLOGY}


class Finding(StrEnum):
    """What came of deriving something again."""

    VERIFIED = "verified"
    DIFFERS = "differs"
    UNTOLD = "cannot be told"


class Place(NamedTuple):
    """One record of the log."""

    topic: str
    partition: int
    offset: int


class Difference(NamedTuple):
    """The first place at which two things differ."""

    where: str
    held: Any
    """What the log holds."""
    derived: Any
    """What folding again says."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that was said about an incident, as the log tells it."""

    seq: int
    record: Record | None
    """Its record in `escalations`, None where it is no longer held."""
    escalation: Escalation | None
    pages: tuple[Page, ...]
    """What came of it, as `pages` tells it."""

    @property
    def said(self) -> Escalation | Page:
        """Whatever tells it."""
        return self.pages[0] if self.escalation is None else self.escalation

    @property
    def origin(self) -> Place | None:
        """The record of decide's inbox that it was decided on, None where its reason chain names none."""
        trail = _decided(self.said.trail)
        return origin_of(trail[-1].origin) if trail else None


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was said, and whether it follows."""

    claim: Claim
    finding: Finding
    why: str
    difference: Difference | None = None
    receipt: Receipt | None = None
    """Derived again."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What was folded again."""

    partition: int
    start: int
    """Offset of the first record."""
    since: datetime | None
    """Its moment, None where there is no record."""
    folded: int
    """Number of records."""
    missing: tuple[str, ...]
    """Versions that were switched to, and that the log does not hold: `config 3`."""

    @property
    def whole(self) -> bool:
        """Whether the log still holds everything from its beginning on."""
        return self.start == 0 and not self.missing


@dataclass(frozen=True, slots=True)
class Upstream:
    """Whether the slice itself follows from the requests that came in."""

    finding: Finding
    why: str
    episodes: int = 0
    alerts: int = 0


@dataclass(slots=True)
class Derived:
    """What folding the slice says about one incident."""

    slice: Slice
    said: dict[int, tuple[Escalation, Outgoing]] = field(default_factory=dict)
    """Escalations by their number."""
    episodes: list[Record] = field(default_factory=list)
    """Records of the inbox that its members said."""


def _decided(trail: tuple[Why, ...]) -> tuple[Why, ...]:
    """Return a reason chain up to the decision, without what came of sending."""
    return tuple(why for why in trail if why.stage != "deliver")


def origin_of(text: str) -> Place | None:
    """Return the record that a reason chain names, None where the text names none."""
    found = ORIGIN.fullmatch(text)
    return None if found is None else Place(found["topic"], int(found["partition"]), int(found["offset"]))


def claims_of(inboxes: Inboxes, incident_id: str, pages: Iterable[Page]) -> list[Claim]:
    """Return everything that was said about an incident, in order, as far as the log still tells it.

    Args:
        inboxes: the log.
        incident_id: of which incident.
        pages: the records of `pages` of that incident.
    """
    sent: dict[int, list[Page]] = {}
    for page in pages:
        sent.setdefault(page.seq, []).append(page)
    wanted: dict[int, tuple[Record, Escalation]] = {}
    named = orjson.dumps(incident_id)
    for partition in inboxes.partitions("escalations"):
        for record in inboxes.records("escalations", partition, inboxes.start("escalations", partition)):
            if record.headers.get("type") == ESCALATION and named in record.value:
                escalation = Escalation.decode(record.value, {})
                if escalation.incident_id == incident_id:
                    # A refused one that a person retried stands here twice; the first is the fold's own.
                    wanted.setdefault(escalation.seq, (record, escalation))
    claims = []
    for seq in sorted({*sent, *wanted}):
        pair = wanted.get(seq)
        told = tuple(sent.get(seq, ()))
        claims.append(Claim(seq, None, None, told) if pair is None else Claim(seq, *pair, told))
    return claims


class Lenient:
    """A log without switches to versions that it does not hold: what they would have changed may not matter.

    Args:
        log: the log itself.
    """

    def __init__(self, log: Inboxes) -> None:
        self._log = log
        self.missing: dict[str, None] = {}

    def partitions(self, topic: str) -> Sequence[int]:
        """Return the partitions of a topic."""
        return self._log.partitions(topic)

    def start(self, topic: str, partition: int) -> int:
        """Return the first offset that is held."""
        return self._log.start(topic, partition)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record."""
        return self._log.end(topic, partition)

    def at(self, topic: str, partition: int, moment: datetime) -> int:
        """Return the first offset that was appended at `moment` or later."""
        return self._log.at(topic, partition, moment)

    def version(self, checksum: str) -> str | None:
        """Return the body of a version."""
        return self._log.version(checksum)

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records, but those that switch to what is missing."""
        for record in self._log.records(topic, partition, offset):
            if record.headers.get("type") == Activated.TYPE.encode():
                switch = Activated.decode(record.value, record.headers)
                if self._log.version(switch.checksum) is None:
                    self.missing[f"{switch.kind} {switch.version}"] = None
                    continue
            yield record


def derive(inboxes: Inboxes, incident_id: str, partition: int, until: int) -> Derived:
    """Fold the inbox of node decide again, and return what it says about an incident.

    Args:
        inboxes: the log.
        incident_id: of which incident.
        partition: of the inbox.
        until: the first offset that is not folded.

    Raises:
        Unusable: the log cannot be folded.
    """
    lenient = Lenient(inboxes)
    again = Refold(NODES["decide"], partition, lenient)
    named, row = orjson.dumps(incident_id), INCIDENT.at(incident_id)
    said: dict[int, tuple[Escalation, Outgoing]] = {}
    episodes: list[Record] = []
    since, count = None, 0
    for record, folded in again.run(until):
        since, count = since or record.now, count + 1
        for emit in folded.emits:
            if emit.headers["type"] == ESCALATION and named in emit.value:
                escalation = Escalation.decode(emit.value, {})
                if escalation.incident_id == incident_id:
                    said[escalation.seq] = (escalation, emit)
        if row in folded.changes and record.headers.get("type") == EPISODE:
            episodes.append(record)
    return Derived(Slice(partition, again.start, since, count, tuple(lenient.missing)), said, episodes)


def check(claim: Claim, derived: Derived) -> Checked:
    """Compare one thing that was said with what folding again says. Total."""
    found = derived.said.get(claim.seq)
    if claim.origin is None:
        why = "no record of decide's inbox made it: the sender itself, or another version, said it"
        return Checked(claim, Finding.UNTOLD, why)
    if found is None:
        if derived.slice.whole:
            return Checked(claim, Finding.DIFFERS, "folding the whole inbox up to its record does not say it at all")
        return Checked(claim, Finding.UNTOLD, lacking(claim, derived.slice))
    escalation, emit = found
    difference = differing(claim, escalation, emit, derived)
    if difference is None:
        return Checked(claim, Finding.VERIFIED, _same(claim), None, escalation.receipt)
    # What the incident's members said, and by which versions, came out the same: then nothing that is gone explains it.
    same_input = claim.said.receipt == escalation.receipt
    if derived.slice.whole or same_input:
        return Checked(
            claim, Finding.DIFFERS, f"`{difference.where}` is not what follows", difference, escalation.receipt
        )
    return Checked(claim, Finding.UNTOLD, lacking(claim, derived.slice), difference, escalation.receipt)


def lacking(claim: Claim, held: Slice) -> str:
    """Return what is missing, so that it cannot be told."""
    receipt = claim.said.receipt or Receipt(inbox="")
    needed = [f"{kind} {getattr(receipt, name)}" for kind, name in VERSIONS.items()]
    if gone := [version for version in held.missing if version in needed]:
        return f"the log does not hold version {', '.join(gone)}, which its receipt names"
    origin = claim.origin
    if origin is not None and origin.offset < held.start:
        return f"the record that it was decided on, episodes/{held.partition}/{origin.offset}, is gone: {_begins(held)}"
    if held.start:
        return f"it depends on older records, which are gone: {_begins(held)}"
    return f"the log does not hold version {', '.join(held.missing)}"


def _begins(held: Slice) -> str:
    since = "" if held.since is None else f", {held.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"the log begins at offset {held.start}{since}"


def _same(claim: Claim) -> str:
    bodies = sum(bool(page.body) for page in claim.pages)
    parts = [
        "the escalation" if claim.record is not None else "",
        "the page" if claim.pages else "",
        "the request to PagerDuty" if bodies else "",
    ]
    told = [part for part in parts if part]
    return f"{', '.join(told[:-1])}{' and ' if told[1:] else ''}{told[-1]} came out the same, bit for bit"


def differing(claim: Claim, escalation: Escalation, emit: Outgoing, derived: Derived) -> Difference | None:
    """Return the first difference between what the log holds and what folding says, None where there is none."""
    if claim.record is not None:
        held = claim.record
        found = first_difference(orjson.loads(held.value), orjson.loads(emit.value), "escalation")
        if found is None and held.value != emit.value:
            found = _bytes_differ("escalation", held.value, emit.value)
        found = found or first_difference(_headers(held.headers), _headers(emit.headers), "escalation, header")
        if found is not None:
            return found
    for page in claim.pages:
        if (found := _page_difference(page, escalation, derived)) is not None:
            return found
    return None


def _headers(headers: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.decode("latin-1") for name, value in headers.items()}


def _page_difference(page: Page, said: Escalation, derived: Derived) -> Difference | None:
    expected = {
        "destination": said.destination,
        "routing_key_hint": said.routing_key[-KEPT_OF_KEY:],
        "dedup_key": said.dedup_key,
        "action": said.action,
        "decided_at": said.at,
        "severity": said.text.severity if said.text else None,
        "summary": said.text.summary if said.text else "",
    }
    for name, value in expected.items():
        if getattr(page, name) != value:
            return Difference(f"page.{name}", getattr(page, name), value)
    # Something newer may have taken its place before the answer came: then the page carries the newer one's reasons.
    newer = [one for seq, (one, _) in derived.said.items() if seq >= said.seq and one.dedup_key == said.dedup_key]
    trail = _decided(page.trail)
    if all((page.receipt, trail) != (one.receipt, one.trail) for one in newer):
        held = page.model_copy(update={"trail": trail})
        shown, told = (one.model_dump(mode="json", include={"receipt", "trail"}) for one in (held, said))
        return first_difference(shown, told, "page")
    if page.verdict is Verdict.DELIVERED or page.body:
        return _body_difference(page.body, said)
    return None


def _body_difference(held: str, said: Escalation) -> Difference | None:
    """Compare a request; how late it was, and the client's name, are the sender's, and taken from the body itself."""
    try:
        body = orjson.loads(held)
        late = DELAYED.search(str(body.get("payload", {}).get("custom_details", {}).get("delayed", "")))
    except (orjson.JSONDecodeError, AttributeError):
        return Difference("page.body", held, encode(said, delayed_by=None).shown)
    trigger = said.action is PageAction.TRIGGER
    derived = encode(
        said,
        delayed_by=None if late is None else timedelta(minutes=int(late[1])),
        client=str(body.get("client", "")) if trigger else "",
        client_url=str(body.get("client_url", "")) if trigger else "",
    ).shown
    if held == derived:
        return None
    found = first_difference(body, orjson.loads(derived), "page.body")
    return found or _bytes_differ("page.body", held.encode(), derived.encode())


def _bytes_differ(where: str, held: bytes, derived: bytes) -> Difference:
    """Return that the same is written in other bytes; these are not shown, a routing key may be among them."""
    told = (f"sha256 {hashlib.sha256(one).hexdigest()[:16]}, {len(one)} bytes" for one in (held, derived))
    return Difference(f"{where}, in its bytes", *told)


def first_difference(held: Any, derived: Any, where: str) -> Difference | None:
    """Return the first place at which two JSON values differ, None where they do not. Routing keys are masked."""
    if isinstance(held, dict) and isinstance(derived, dict):
        for name in (*held, *(name for name in derived if name not in held)):
            if found := first_difference(held.get(name), derived.get(name), f"{where}.{name}"):
                return found
        return None
    if isinstance(held, list) and isinstance(derived, list) and len(held) == len(derived):
        pairs = enumerate(zip(held, derived, strict=True))
        return next((found for at, pair in pairs if (found := first_difference(*pair, f"{where}[{at}]"))), None)
    if held == derived:
        return None
    if where.endswith(SECRET):
        return Difference(where, f"...{str(held)[-KEPT_OF_KEY:]}", f"...{str(derived)[-KEPT_OF_KEY:]}")
    return Difference(where, held, derived)


def check_upstream(inboxes: Inboxes, episodes: Sequence[Record]) -> Upstream:
    """Derive the slice itself again: from the requests that came in, by normalise and deduplicate.

    Args:
        inboxes: the log.
        episodes: what the incident's members said, as records of decide's inbox.

    Raises:
        Unusable: the log cannot be folded.
    """
    alerts: list[Record] = []
    for node, found in (("deduplicate", episodes), ("normalise", alerts)):
        told = _follows(inboxes, NODES[node], found, alerts)
        if told is not None:
            return told
    why = "every one of them follows from the requests that came in"
    return Upstream(Finding.VERIFIED, why, len(episodes), len(alerts))


def _follows(inboxes: Inboxes, node: Node, records: Sequence[Record], inputs: list[Record]) -> Upstream | None:
    """Look whether a node emitted these records; collect the alerts among what it made them of."""
    wanted: dict[int, dict[int, list[Record]]] = {}
    for record in records:
        trail = orjson.loads(record.value)["trail"]
        origin = origin_of(trail[-1]["origin"]) if trail else None
        if origin is None or origin.topic != node.inbox.name:
            return Upstream(
                Finding.DIFFERS, f"{record.origin} does not name the record of {node.inbox.name} it is from"
            )
        wanted.setdefault(origin.partition, {}).setdefault(origin.offset, []).append(record)
    for partition, offsets in wanted.items():
        again = Refold(node, partition, Lenient(inboxes))
        if min(offsets) < again.start:
            gone = f"{node.inbox.name}/{partition}/{min(offsets)} is gone: that log begins at offset {again.start}"
            return Upstream(Finding.UNTOLD, gone)
        for record, folded in again.run(max(offsets) + 1):
            emitted = {emit.value for emit in folded.emits}
            missed = next((one for one in offsets.get(record.offset, ()) if one.value not in emitted), None)
            if missed is not None:
                finding = Finding.DIFFERS if again.whole else Finding.UNTOLD
                since = "" if again.whole else f"; that log begins at offset {again.start}"
                return Upstream(finding, f"{missed.origin} is not what {node.name} makes of {record.origin}{since}")
            if record.offset in offsets and record.headers.get("type") == b"alert.v1":
                inputs.append(record)
    return None


def overall(checked: Iterable[Checked], upstream: Upstream | None) -> Finding:
    """Return what holds for all: a difference weighs most, then what cannot be told."""
    found = {one.finding for one in checked} | ({upstream.finding} if upstream is not None else set())
    order = (Finding.DIFFERS, Finding.UNTOLD, Finding.VERIFIED)
    return next(finding for finding in order if finding in found)
