from __future__ import annotations

import io

import pytest
from rich.console import Console

from streamproc.demo.figures import Figures, Process, Shown
from streamproc.demo.screen import LiveScreen, PlainScreen, fits, frame, plain
from streamproc.demo.telling import Line, Verb

FIGURES = Figures(
    elapsed=12.3,
    runtime="Apache Kafka",
    workers=(Process("worker-1", "dead", well=False), Process("worker-2", "42 partitions", well=True)),
    alerts=8077,
    rate=812.4,
    repeats=4040,
    episodes=2017,
    incidents=6,
    open_incidents=3,
    pages=4,
    letters=2,
    delays=(0.011, 0.013),
    shown=(
        Shown("triggered", "critical", "payments: it hurts", ""),
        Shown("acknowledged", "error", "search: slow", "Ada"),
        Shown("resolved", "error", "reporting: full", ""),
    ),
)
LINES = [
    Line(1.0, Verb.SCENE, "", "A bad deploy"),
    *(Line(float(at), Verb.PAGE, "payments", f"line {at}", "escalate/severity", "more of it") for at in range(2, 60)),
]


def console(width: int, height: int, *, terminal: bool = False, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(
        file=file,
        width=width,
        height=height,
        color_system=None,
        force_terminal=terminal,
        _environ={"TERM": "xterm-256color"},
    )


def drawn(figures: Figures, lines: list[Line], width: int, height: int) -> list[str]:
    with (target := console(width, height)).capture() as held:
        target.print(frame(figures, lines, 24.0, width, height))
    return held.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (60, 18), (200, 60)])
def test_the_screen_fits_and_shows_the_newest_line(width: int, height: int) -> None:
    rows = drawn(FIGURES, LINES, width, height)
    assert len(rows) == height
    assert all(len(row.rstrip()) <= width for row in rows)
    assert "line 59" in rows[-1]


def test_the_screen_shows_figures_scene_pagerduty_and_reasons() -> None:
    rows = drawn(FIGURES, LINES, 80, 24)
    text = "\n".join(rows)
    for words in (
        "12 of 24 s",
        "on Apache Kafka   worker-1 dead   worker-2 42 partitions",
        "8,077",
        "812 a second",
        "4,040 folded",
        "open of 6",
        "p50 12 ms",
        "2,019",
        "dead letters",
        "A bad deploy",
        "PagerDuty: 2 open",
        "ack by Ada",
        "escalate/severity",
    ):
        assert words in text
    assert "more of it" not in text
    assert "more of it" in "\n".join(drawn(FIGURES, LINES, 140, 40))


def test_what_happens_to_a_worker_is_a_headline_and_stays_in_the_feed() -> None:
    killed = Line(1.5, Verb.WORKER, "worker-1", "is killed")
    rows = drawn(FIGURES, [LINES[0], killed, LINES[1]], 80, 24)
    assert " ▸ worker-1 is killed" in [row.rstrip() for row in rows]
    assert sum("is killed" in row for row in rows) == 2


def test_an_empty_screen_is_calm() -> None:
    text = "\n".join(drawn(Figures(), [], 80, 24))
    assert "nobody is paged yet" in text
    assert "PagerDuty: 0 open" in text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(Line(1.04, Verb.SCENE, "", "A bad deploy"), "   1.0  -- A bad deploy", id="scene"),
        pytest.param(
            Line(12.0, Verb.PAGE, "payments", "pages at once", "escalate/severity", "it hurts"),
            "  12.0  page    payments    pages at once: it hurts  [escalate/severity]",
            id="decision",
        ),
        pytest.param(Line(2.0, Verb.FOLD, "", "9 repeats"), "   2.0  fold                9 repeats", id="bare"),
    ],
)
def test_a_plain_line(line: Line, text: str) -> None:
    assert plain(line) == text


def test_the_plain_screen_writes_every_line_uncut() -> None:
    long = Line(1.0, Verb.LETTER, "", "x" * 200)
    with (target := console(80, 24)).capture() as held, PlainScreen(target) as screen:
        screen.show(FIGURES, [long, LINES[0]])
    assert held.get().splitlines() == [plain(long), plain(LINES[0])]


def test_the_live_screen_takes_the_terminal_and_gives_it_back() -> None:
    target = console(80, 24, terminal=True)
    with target.capture() as held, LiveScreen(target, 24.0) as screen:
        screen.show(FIGURES, LINES)
    enters, leaves = "\x1b[?1049h", "\x1b[?1049l"
    assert held.get().index(enters) < held.get().index("8,077") < held.get().index(leaves)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(console(80, 24, terminal=True), True, id="a terminal"),
        pytest.param(console(80, 24), False, id="a file"),
        pytest.param(console(50, 24, terminal=True), False, id="too narrow"),
        pytest.param(console(80, 10, terminal=True), False, id="too low"),
        pytest.param(console(80, 24, terminal=True, encoding="latin-1"), False, id="without Unicode"),
    ],
)
def test_where_the_live_screen_fits(target: Console, *, expected: bool) -> None:
    assert fits(target) is expected
