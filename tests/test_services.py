from __future__ import annotations

import json
from typing import Any

import pytest

from streamproc.core.errors import Unusable
from streamproc.events.alert import Link
from streamproc.services import CATALOGUE, DEEP, FAR, MOST_KEPT, Catalogue, problems


def catalogue(**services: Any) -> Catalogue:
    return Catalogue.of(json.dumps({"services": services}))


SHOP = catalogue(
    web={"depends_on": ["api"], "destination": "front"},
    api={"depends_on": ["db", "redis"], "aliases": ["api-v2", "gateway"], "destination": "back"},
    db={"tier": 1, "destination": "back", "aliases": ["postgres"]},
    lonely=None,
)


@pytest.mark.parametrize(
    ("service", "distances", "needs"),
    [
        pytest.param(
            "web",
            {"web": 0, "api": 1, "db": 2, "redis": 2},
            {"web": 0, "api": 1, "db": 2, "redis": 2},
            id="what it needs, by the catalogue's names",
        ),
        pytest.param("db", {"db": 0, "api": 1, "redis": 2, "web": 2}, {"db": 0}, id="what needs it"),
        pytest.param("postgres", {"db": 0, "api": 1, "redis": 2, "web": 2}, {"db": 0}, id="asked for by an alias"),
        pytest.param(
            "redis", {"redis": 0, "api": 1, "db": 2, "web": 2}, {"redis": 0}, id="a dependency not in the catalogue"
        ),
        pytest.param("lonely", {"lonely": 0}, {"lonely": 0}, id="no edges"),
        pytest.param("stranger", {}, {}, id="unknown"),
    ],
)
def test_how_far_services_are_apart(service: str, distances: dict[str, int], needs: dict[str, int]) -> None:
    for _ in range(2):
        assert SHOP.distances(service) == distances
        assert SHOP.needs(service) == needs


def test_nothing_is_followed_further_than_it_pays() -> None:
    long = catalogue(**{f"s{at}": {"depends_on": [f"s{at + 1}"]} for at in range(8)})
    assert long.distances("s0") == {f"s{at}": at for at in range(FAR + 1)}
    assert long.needs("s1") == {f"s{at + 1}": at for at in range(DEEP + 1)}


def test_what_is_kept_of_distances_is_bounded() -> None:
    star = catalogue(**{f"s{at}": {"depends_on": ["db"]} for at in range(500)})
    expected = {"db": 1, **dict.fromkeys(star.services, 2)}
    for name in star.services:
        assert star.distances(name) == {**expected, name: 0}
        assert star.distances(f"stranger of {name}") == star.needs(f"stranger of {name}") == {}
    assert 0 < sum(map(len, star._distances.values())) <= MOST_KEPT < 500 * 501
    assert star._deep == {}


def test_every_name_that_alerts_may_say() -> None:
    assert list(SHOP.written("api")) == ["api", "api-v2", "gateway"]
    assert list(SHOP.written("stranger")) == ["stranger"]


def test_edges_go_from_a_service_to_what_it_depends_on() -> None:
    assert SHOP.dependencies("gateway") == {"db", "redis"}
    assert SHOP.dependants("postgres") == {"api"}
    assert SHOP.dependencies("stranger") == SHOP.dependants("web") == frozenset()


def test_a_dependency_may_be_named_by_an_alias() -> None:
    shop = catalogue(web={"depends_on": ["postgres"]}, db={"aliases": ["postgres"]})
    assert shop.dependants("db") == {"web"}
    assert shop.dependencies("web") == {"db"}


def test_find() -> None:
    found = SHOP.find("gateway")
    assert found is not None
    assert found.destination == "back"
    assert SHOP.find("stranger") is None


def test_dashboards_are_links() -> None:
    shop = catalogue(web={"dashboards": [{"href": "https://grafana.example/d/1", "text": "RED"}]})
    assert shop.services["web"].links == (Link(href="https://grafana.example/d/1", text="RED"),)


def test_the_artifact_decodes_the_catalogue() -> None:
    assert CATALOGUE.name == "catalogue"
    assert CATALOGUE.decode(SHOP.model_dump_json()) == SHOP


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param('{"services": {"web": {"teer": 1}}}', "services.web.teer: no such key", id="unknown key"),
        pytest.param(
            '{"services": {"web": {"tier": 9}}}', "services.web.tier: Input should be less", id="tier too high"
        ),
        pytest.param("{", "Invalid JSON", id="not JSON"),
        pytest.param(
            '{"services": {"web": {}, "api": {"aliases": ["web"]}}}',
            "alias web of service api is already the name of a service",
            id="an alias that is a service",
        ),
        pytest.param(
            '{"services": {"web": {"aliases": ["x"]}, "api": {"aliases": ["x"]}}}',
            "alias x of service api is already",
            id="an alias given twice",
        ),
        pytest.param(
            json.dumps({"services": {f"s{n}": {"teer": 1} for n in range(7)}}), "(and 2 more)", id="many faults are cut"
        ),
    ],
)
def test_a_catalogue_that_cannot_be_used(body: str, said: str) -> None:
    with pytest.raises(Unusable) as caught:
        Catalogue.of(body)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shop", "said"),
    [
        pytest.param(catalogue(), [], id="empty"),
        pytest.param(catalogue(a={"destination": "ops", "second_destination": "boss"}), [], id="nothing to say"),
        pytest.param(
            catalogue(a={"destination": "ops", "depends_on": ["ghost"]}),
            ["service a depends on ghost, which is not in the catalogue"],
            id="unknown dependency",
        ),
        pytest.param(
            catalogue(a={"destination": "nowhere"}),
            ["destination nowhere of service a has no routing key"],
            id="destination",
        ),
        pytest.param(
            catalogue(a={"destination": "ops", "second_destination": "nobody"}),
            ["destination nobody of service a has no routing key"],
            id="second destination",
        ),
        pytest.param(
            catalogue(a={}),
            [
                "service a names no destination: its pages go to `default`",
                "destination default of service a has no routing key",
            ],
            id="no destination, and no default either",
        ),
        pytest.param(
            catalogue(
                a={"destination": "ops", "depends_on": ["b"]},
                b={"destination": "ops", "depends_on": ["c"]},
                c={"destination": "ops", "depends_on": ["a"]},
            ),
            ["services depend on one another in a circle: a > b > c > a"],
            id="a circle",
        ),
    ],
)
def test_problems(shop: Catalogue, said: list[str]) -> None:
    assert problems(shop, {"ops", "boss"}) == said
