from __future__ import annotations

import json
from typing import Any

import pytest

from streamproc.core.errors import Unusable
from streamproc.events.alert import Link
from streamproc.services import CATALOGUE, Catalogue, problems


def catalogue(**services: Any) -> Catalogue:
    return Catalogue.of(json.dumps({"services": services}))


SHOP = catalogue(
    web={"depends_on": ["api"], "destination": "front"},
    api={"depends_on": ["db", "redis"], "aliases": ["api-v2", "gateway"], "destination": "back"},
    db={"tier": 1, "destination": "back", "aliases": ["postgres"]},
    lonely=None,
)


@pytest.mark.parametrize(
    ("service", "hops", "near"),
    [
        pytest.param("web", 1, {"api", "api-v2", "gateway"}, id="what it needs, by every name"),
        pytest.param("db", 1, {"postgres", "api", "api-v2", "gateway"}, id="what needs it, and its own alias"),
        pytest.param("postgres", 1, {"db", "api", "api-v2", "gateway"}, id="asked for by an alias"),
        pytest.param("web", 2, {"api", "api-v2", "gateway", "db", "postgres", "redis"}, id="two hops"),
        pytest.param("redis", 1, {"api", "api-v2", "gateway"}, id="a dependency that is not in the catalogue"),
        pytest.param("api", 0, {"api-v2", "gateway"}, id="no hops: its other names"),
        pytest.param("lonely", 3, set(), id="no edges"),
        pytest.param("stranger", 3, set(), id="unknown"),
    ],
)
def test_neighbours(service: str, hops: int, near: set[str]) -> None:
    assert SHOP.neighbours(service, hops) == near


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
