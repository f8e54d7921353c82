"""Open incidents by state, and the versions that count, as the real pipeline leaves them in its rows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from streamproc.runtime.standing_metrics import KINDS, StandingMetrics
from streamproc.state import OPEN_STATES
from tests.support.play import Play, alert, in_memory


class Shown:
    """The gauges over a pipeline in memory."""

    def __init__(self, partitions: int = 1) -> None:
        runtime = in_memory(partitions=partitions)
        self.registry = CollectorRegistry()
        StandingMetrics(lambda: runtime.engine.parts, self.registry)
        self.play = Play(runtime)

    @property
    def incidents(self) -> dict[str, float | None]:
        found = {state: self._of("streamproc_open_incidents", state=state) for state in OPEN_STATES}
        return {state: count for state, count in found.items() if count != 0}

    @property
    def versions(self) -> dict[str, float | None]:
        return {kind: self._of("streamproc_active_version", kind=kind) for kind in KINDS}

    def _of(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_every_label_set_stands_from_the_start_where_nothing_is_folded_too() -> None:
    registry = CollectorRegistry()
    StandingMetrics(lambda: (), registry)
    for state in OPEN_STATES:
        assert registry.get_sample_value("streamproc_open_incidents", {"state": state}) == 0
    for kind in KINDS:
        assert registry.get_sample_value("streamproc_active_version", {"kind": kind}) == 0


def test_an_incident_stands_in_one_state_at_a_time() -> None:
    shown = Shown()
    down = alert("db-1 down", service="db")
    shown.play.push(down, alert("disk may fill", service="files", severity="info"))
    assert shown.incidents == {"paged": 1, "quiet": 1}
    shown.play.at("1m").respond("db-1 down")
    assert shown.incidents == {"acknowledged": 1, "quiet": 1}
    shown.play.at("2m").push(down.resolved)
    assert shown.incidents == {"quiet": 1}


def test_partitions_are_added_up() -> None:
    shown = Shown(partitions=3)
    for number in range(6):
        shown.play.push(alert(f"down {number}", service=f"s-{number}", cluster=f"c-{number}"))
    assert shown.incidents == {"paged": 6}


def test_the_version_that_counts_is_shown() -> None:
    shown = Shown()
    assert shown.versions == {"catalogue": 0, "config": 1, "model": 0}
    shown.play.configure().services(db={"owner": "ann"})
    assert shown.versions == {"catalogue": 1, "config": 2, "model": 0}
