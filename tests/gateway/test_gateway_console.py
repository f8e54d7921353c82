"""The status page: hostile text stays text, and every state can be drawn."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from streamproc.events.alert import Severity
from streamproc.events.incident import Context
from streamproc.gateway.console import MEMBERS_SHOWN, Compression, ago, by_stage, web
from tests.gateway.gateway_fakes import HOSTILE, NOW, OPEN_ID, QUOTED_ID, SHUT_ID, STATUS, Stand, incident, member


class Elements(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif self._in == "style":
            self.styles.append(data)
        else:
            self.text += data

    def links(self) -> list[str]:
        return [attributes["href"] or "" for tag, attributes in self.found if tag == "a"]


PAGES = ["/", f"/incidents/{OPEN_ID}", f"/incidents/{SHUT_ID}"]


@pytest.mark.parametrize("path", PAGES)
async def test_alert_text_is_shown_and_never_run(path: str) -> None:
    answer = await Stand().get(path)
    page = Elements(answer.text)
    assert answer.status_code == 200
    assert HOSTILE in page.text
    assert "img" not in {tag for tag, _ in page.found}
    assert len(page.scripts) == 1
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on") or name == "style"]
    assert all(link.startswith(("/", "https://")) for link in page.links())


@pytest.mark.parametrize("path", PAGES)
async def test_the_policy_allows_our_style_and_script_and_nothing_else(path: str) -> None:
    answer = await Stand().get(path)
    page = Elements(answer.text)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    for text in (*page.scripts, *page.styles):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=.https?://(?!runbooks|graphs)", answer.text)


async def test_the_overview_links_to_every_incident_shown() -> None:
    stand = Stand()
    page = Elements((await stand.get("/")).text)
    linked = [link for link in page.links() if link.startswith("/incidents/")]
    assert len(linked) == 3
    for link in linked:
        assert (await stand.get(link)).status_code == 200


async def test_the_overview_tells_what_was_made_of_the_alerts() -> None:
    text = " ".join(Elements((await Stand().get("/")).text).text.split())
    assert "120 → 3 → 3 40.0 alerts a page" in text
    assert re.search(r"deduplicate ?repeat 90 opened 4", text)
    assert "ready armed" in text


async def test_an_empty_pipeline_is_calm() -> None:
    stand = Stand()
    stand.desk.shown, stand.desk.letters = [], []
    stand.desk.stands = STATUS.model_copy(
        update={"ready": False, "why_not": "catching up", "armed": False, "decisions": {}, "dead_letters": 0}
    )
    text = Elements((await stand.get("/")).text).text
    for said in ("not ready", "catching up", "dry run", "Nothing is open.", "None yet.", "Every input could be used."):
        assert said in text


async def test_more_incidents_than_shown_are_announced() -> None:
    stand = Stand()
    stand.desk.stands = STATUS.model_copy(update={"open_incidents": 4000})
    assert "of 4000" in Elements((await stand.get("/")).text).text


async def test_an_incident_is_explained() -> None:
    text = Elements((await Stand().get(f"/incidents/{OPEN_ID}")).text).text
    for said in ("correlate", "muted by silence-1", "Customers cannot pay", "worth a page: 90 %", "no answer", OPEN_ID):
        assert said in text


async def test_an_incident_of_which_little_is_known_can_be_drawn() -> None:
    stand = Stand()
    bare = {"context": None, "classification": None, "decision": None, "services": (), "service": "", "joined": ()}
    stand.desk.shown = [incident(OPEN_ID, **bare), incident(QUOTED_ID, context=Context(known=False, runbook="wiki"))]
    stand.desk.pages = []
    page = Elements((await stand.get(f"/incidents/{OPEN_ID}")).text)
    assert "Said to PagerDuty" not in page.text
    assert (
        "not in the catalogue" in Elements((await stand.get("/incidents/" + QUOTED_ID.replace("%", "%25"))).text).text
    )


async def test_a_storm_is_cut_to_what_can_be_read() -> None:
    stand = Stand()
    members = tuple(
        member(fingerprint=f"fp:v1:{n:x}", name=f"Pod{n}", severity=Severity.INFO) for n in range(MEMBERS_SHOWN + 1)
    )
    stand.desk.shown = [incident(OPEN_ID, joined=members)]
    text = Elements((await stand.get(f"/incidents/{OPEN_ID}")).text).text
    assert f"Pod{MEMBERS_SHOWN - 1}" in text
    assert f"Pod{MEMBERS_SHOWN}\n" not in text
    assert f"The first {MEMBERS_SHOWN} of {MEMBERS_SHOWN + 1}" in text


async def test_an_unknown_incident_is_404() -> None:
    assert (await Stand().get("/incidents/in:v1:x:y:00")).status_code == 404


@pytest.mark.parametrize(
    ("before", "said"),
    [
        pytest.param(timedelta(seconds=-3), "0 s", id="to come"),
        pytest.param(timedelta(seconds=59), "59 s", id="seconds"),
        pytest.param(timedelta(minutes=59), "59 min", id="minutes"),
        pytest.param(timedelta(hours=23), "23 h", id="hours"),
        pytest.param(timedelta(days=400), "400 d", id="days"),
    ],
)
def test_ages(before: timedelta, said: str) -> None:
    assert ago(NOW - before, NOW) == said


@pytest.mark.parametrize("href", ["javascript:alert(1)", "data:text/html,x", "//evil.example.com", "", " https://x"])
def test_only_web_links_are_followed(href: str) -> None:
    assert web(href) == ""
    assert web("HTTPS://x.example.com") == "HTTPS://x.example.com"


def test_compression_without_pages_has_no_ratio() -> None:
    assert Compression.of([]) == Compression(0, 0, 0)
    assert Compression(7, 2, 0).ratio == "no"


def test_stages_stand_as_they_come_and_reasons_by_count() -> None:
    told = by_stage({"b/x": 1, "a/z": 2, "b/y": 5, "b/a": 5})
    assert list(told.items()) == [("b", [("a", 5), ("y", 5), ("x", 1)]), ("a", [("z", 2)])]
