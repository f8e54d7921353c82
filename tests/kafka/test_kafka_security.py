"""TLS and every way to log in, on a real broker that refuses everybody else."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamproc.core.errors import StreamprocError
from streamproc.core.event import Event
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import Place, TopicPartition, reader
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from tests.kafka.broker import Broker, config_for, free_ports
from tests.support import toy

LOGIN = "org.apache.kafka.common.security"


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
    own = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{plain + 1},GUARDED://127.0.0.1:{secure}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},GUARDED://127.0.0.1:{secure}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,OAUTHBEARER",
        "listener.name.guarded.ssl.keystore.type": "PEM",
        "listener.name.guarded.ssl.keystore.certificate.chain": chain,
        "listener.name.guarded.ssl.keystore.key": key,
        "listener.name.guarded.plain.sasl.jaas.config": f'{LOGIN}.plain.PlainLoginModule required user_app="secret";',
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
