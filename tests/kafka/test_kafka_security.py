"""TLS, every way to log in, and rights, on a real broker that refuses everybody and everything else."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from streamproc import settings as configuration
from streamproc.core.errors import StreamprocError, Unusable
from streamproc.core.event import Event
from streamproc.distributed import apply_topics, needed, taking_in, working
from streamproc.doctor.brokers import find_rights
from streamproc.doctor.finding import State
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import rights
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import Place, TopicPartition, admin_client, reader
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.settings import Settings
from tests.embedded.pipelines import body
from tests.kafka.acls import Acl, Kind, Operation, grant
from tests.kafka.broker import Broker, config_for, free_ports
from tests.service.standing import now_alert
from tests.support import toy

LOGIN = "org.apache.kafka.common.security"
LIMITED = ("worker", "gateway", "poor", "founder")
"""Users that may do only what they are granted; `app`, and who comes without a login, may do all."""
WITHIN = 60.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(  # noqa: S603  a constant command
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem")),
            *("-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[tuple[Broker, str]]:
    """A broker with a listener that wants TLS and a login; that listener's address."""
    folder = tmp_path_factory.mktemp("guarded")
    plain, secure = free_ports(2), free_ports(1)
    chain, key = (_inline(authority / name) for name in ("cert.pem", "key.pem"))
    users = " ".join(f'user_{name}="secret"' for name in ("app", *LIMITED))
    own = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:app",
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{plain + 1},GUARDED://127.0.0.1:{secure}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},GUARDED://127.0.0.1:{secure}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,OAUTHBEARER",
        "listener.name.guarded.ssl.keystore.type": "PEM",
        "listener.name.guarded.ssl.keystore.certificate.chain": chain,
        "listener.name.guarded.ssl.keystore.key": key,
        "listener.name.guarded.plain.sasl.jaas.config": f"{LOGIN}.plain.PlainLoginModule required {users};",
        "listener.name.guarded.scram-sha-256.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        "listener.name.guarded.oauthbearer.sasl.jaas.config": (
            f'{LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
    }
    file = folder / "own.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in own.items()))
    user = "SCRAM-SHA-256=[name=app,password=secret]"
    one = Broker(folder, port=plain, options=("--properties", str(file), "--scram", user))
    one.start()
    yield one, f"127.0.0.1:{secure}"
    one.stop()


def _inline(file: Path) -> str:
    return file.read_text().strip().replace("\n", "\\n")


def token() -> str:
    """A token that is signed by nobody; a broker for development takes it."""
    now = int(time.time())
    claims = {"sub": "app", "iat": now, "exp": now + 600}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def told(guarded: tuple[Broker, str], authority: Path, **more: Any) -> Config:
    broker, address = guarded
    config = config_for(broker).model_dump() | {"bootstrap": (address,), "tls": True, "tls_ca": authority / "cert.pem"}
    return Config.model_validate(config | more)


@pytest.mark.parametrize(
    "login",
    [
        pytest.param({"sasl": "PLAIN", "username": "app", "password": "secret"}, id="PLAIN"),
        pytest.param({"sasl": "SCRAM-SHA-256", "username": "app", "password": "secret"}, id="SCRAM"),
        pytest.param({"sasl": "OAUTHBEARER"}, id="OAUTHBEARER"),
    ],
)
async def test_who_logs_in_over_tls_makes_topics_writes_and_reads(
    guarded: tuple[Broker, str], authority: Path, login: dict[str, Any], tmp_path: Path
) -> None:
    if login["sasl"] == "OAUTHBEARER":
        (tmp_path / "token").write_text(token())
        login = login | {"token_file": tmp_path / "token"}
    config = told(guarded, authority, **login)
    await catalogue.apply(config, catalogue.wanted(toy.TOPICS, toy.TOY, config))
    inlet = KafkaInlet(config, toy.TOPICS, SystemClock())
    said: Event = toy.Line(sender="s", text="over TLS")
    await inlet.append([Entry.of("lines", said, "s")])
    await inlet.stop()
    places = [Place(config.topic("lines"), p) for p in range(toy.TOPICS["lines"].partitions)]
    async with reader(config, places) as consumer:
        ends = await consumer.end_offsets([TopicPartition(*place) for place in places])
    assert sum(ends.values()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"sasl": "PLAIN", "username": "app", "password": "guessed"}, id="a wrong password"),
        pytest.param(
            {"sasl": "PLAIN", "username": "app", "password": "secret", "tls_ca": None}, id="an unknown authority"
        ),
        pytest.param({"tls": False}, id="no TLS and no login"),
    ],
)
async def test_who_does_not_is_told_in_one_line(
    guarded: tuple[Broker, str], authority: Path, wrong: dict[str, Any]
) -> None:
    config = told(guarded, authority, **wrong)
    with pytest.raises(StreamprocError) as refused:
        await catalogue.apply(config, catalogue.wanted(toy.TOPICS, toy.TOY, config))
    assert "127.0.0.1" in str(refused.value)
    assert "guessed" not in str(refused.value)


# -- rights ----------------------------------------------------------------------------------------------------------


def of_worker(config: Config) -> list[Acl]:
    """All that docs/kafka.md lists for a worker."""
    topics = (Operation.READ, Operation.WRITE, Operation.DESCRIBE_CONFIGS)
    return [
        *(Acl(Kind.TOPIC, config.prefix, operation) for operation in topics),
        Acl(Kind.GROUP, config.group_id, Operation.READ, prefixed=False),
        Acl(Kind.TRANSACTIONAL_ID, f"{config.group_id}-", Operation.WRITE),
        Acl(Kind.TRANSACTIONAL_ID, f"{config.group_id}-", Operation.DESCRIBE),
    ]


def of_gateway(config: Config) -> list[Acl]:
    """All that docs/kafka.md lists for a gateway."""
    return [
        *(Acl(Kind.TOPIC, config.prefix, operation) for operation in (Operation.READ, Operation.DESCRIBE_CONFIGS)),
        *(Acl(Kind.TOPIC, config.topic(name), Operation.WRITE, prefixed=False) for name in ("alerts.raw", "feedback")),
        Acl(Kind.GROUP, config.group_id, Operation.DESCRIBE, prefixed=False),
    ]


def of_founder(config: Config) -> list[Acl]:
    """All that docs/kafka.md lists for `streamproc topics apply`, where `kafka.production` is true."""
    operations = (Operation.CREATE, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS)
    whole = Acl(Kind.CLUSTER, "kafka-cluster", Operation.DESCRIBE_CONFIGS, prefixed=False)
    return [*(Acl(Kind.TOPIC, config.prefix, operation) for operation in operations), whole]


async def granted(broker: Broker, user: str, acls: list[Acl]) -> None:
    async with admin_client(config_for(broker)) as client:
        await grant(client, user, acls)


async def lacking(settings: Settings, *, works: bool) -> list[rights.Lack]:
    return await rights.lacking(settings.kafka, needed(settings, works=works), works=works)


async def known(settings: Settings, holds: Callable[[list[rights.Lack]], bool], *, works: bool) -> None:
    """Wait until the broker knows the rights: it takes a moment to hear of them from its controller."""
    lacks: list[rights.Lack] = []
    try:
        async with asyncio.timeout(WITHIN):
            while not holds(lacks := await lacking(settings, works=works)):  # noqa: ASYNC110  it happens at a broker
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"what lacks: {[str(lack) for lack in lacks]}")


def settings_of(guarded: tuple[Broker, str], authority: Path, folder: Path, user: str, prefix: str) -> Settings:
    kafka = {
        "bootstrap": [guarded[1]],
        "prefix": prefix,
        "replication": 1,
        "production": False,
        "session_timeout": 6,
        "tls": True,
        "tls_ca": str(authority / "cert.pem"),
        "sasl": "PLAIN",
        "username": user,
        "password": "secret",
    }
    file = folder / f"{user}.yaml"
    file.write_text(yaml.safe_dump({"kafka": kafka, "gateway": {"port": 0}}))
    return configuration.load(file)


async def test_the_rights_that_are_documented_suffice(
    guarded: tuple[Broker, str], authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAGERDUTY_EVENTS_URL", "PAGERDUTY_ROUTING_KEY"):
        monkeypatch.delenv(name, raising=False)
    prefix = config_for(guarded[0]).prefix
    app, worker, gateway = (
        settings_of(guarded, authority, tmp_path, user, prefix) for user in ("app", "worker", "gateway")
    )
    await apply_topics(app)
    await granted(guarded[0], "worker", of_worker(worker.kafka))
    await granted(guarded[0], "gateway", of_gateway(gateway.kafka))
    await known(worker, lambda lacks: not lacks, works=True)
    await known(gateway, lambda lacks: not lacks, works=False)
    async with (
        working(worker, armed=False),
        taking_in(gateway) as running,
        httpx.AsyncClient(base_url=running.url) as http,
        asyncio.timeout(WITHIN),
    ):
        assert (await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "db")))).status_code == 202
        while not (found := (await http.get("/v1/incidents")).json().get("incidents")):  # noqa: ASYNC110  at a broker
            await asyncio.sleep(0.1)
        assert [one["title"] for one in found] == ["Down of db"]
    assert [found.state for found in await find_rights(worker.kafka)] == [State.OK]


LACKS = [
    pytest.param(
        lambda config: Acl(Kind.TOPIC, config.topic("pages"), Operation.WRITE, prefixed=False, allowed=False),
        "pages: Write not allowed",
        "allow Write on the topic",
        id="one topic is not to be written to",
    ),
    pytest.param(
        lambda config: Acl(Kind.TOPIC, config.topic("alerts"), Operation.DESCRIBE, prefixed=False, allowed=False),
        "alerts: Read and Write and DescribeConfigs not allowed",
        "allow Read and Write and DescribeConfigs on the topic",
        id="one topic is hidden",
    ),
    pytest.param(
        lambda config: Acl(Kind.GROUP, config.group_id, Operation.READ, prefixed=False, allowed=False),
        "Read not allowed",
        "allow Read on the group",
        id="the group is not to be joined",
    ),
    pytest.param(
        lambda config: Acl(Kind.TRANSACTIONAL_ID, f"{config.group_id}-", Operation.WRITE, allowed=False),
        "transactional ids",
        "allow Write and Describe on transactional ids that begin with",
        id="nothing is to be committed",
    ),
]


@pytest.mark.parametrize(("lack", "what", "mend"), LACKS)
async def test_a_right_that_is_lacking_is_named_with_its_mend(
    guarded: tuple[Broker, str], authority: Path, tmp_path: Path, lack: Any, what: str, mend: str
) -> None:
    prefix = config_for(guarded[0]).prefix
    app, poor = (settings_of(guarded, authority, tmp_path, user, prefix) for user in ("app", "poor"))
    await apply_topics(app)
    await granted(guarded[0], "poor", [*of_worker(poor.kafka), lack(poor.kafka)])
    await known(poor, lambda lacks: [what in lack.what and mend in lack.mend for lack in lacks] == [True], works=True)
    with pytest.raises(Unusable, match="the user 'poor' may not do all that is needed") as refused:
        async with working(poor, armed=False):
            pass
    assert mend in str(refused.value)
    if "transactional" not in what:
        found = await find_rights(poor.kafka)
        assert [(one.state, mend.split(maxsplit=1)[0]) for one in found[:1]] == [(State.FAIL, "allow")]


async def test_the_rights_to_make_and_check_topics_suffice(
    guarded: tuple[Broker, str], authority: Path, tmp_path: Path
) -> None:
    founder = settings_of(guarded, authority, tmp_path, "founder", config_for(guarded[0]).prefix).kafka
    wanted = catalogue.wanted(toy.TOPICS, toy.TOY, founder)
    strict = founder.model_copy(update={"production": True})
    await granted(guarded[0], "founder", of_founder(founder))
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                assert len(await catalogue.apply(founder, wanted)) == len(wanted)
                problems = [finding.problem for finding in await catalogue.check(strict, wanted)]
            except Unusable:
                await asyncio.sleep(0.05)  # the broker does not know of it yet
            else:
                break
    assert "transaction.state.log.replication.factor is 1" in problems
    altered = [replace(topic, settings={**topic.settings, "retention.ms": "86400001"}) for topic in wanted]
    assert len(await catalogue.apply(founder, altered)) == len(wanted)
