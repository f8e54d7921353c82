"""How to reach Kafka, and who we are there."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator

from streamproc.core.step import StageConfig

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class Config(StageConfig):
    """Kafka."""

    bootstrap: tuple[str, ...] = ("127.0.0.1:9092",)
    """Brokers to begin with, `host:port`."""
    tls: bool = False
    """Whether connections are encrypted."""
    tls_ca: Path | None = None
    """Authorities that brokers' certificates are checked against; the system's where none is set."""
    tls_certificate: Path | None = None
    """Our own certificate, for brokers that want one."""
    tls_key: Path | None = None
    """Its key."""
    sasl: Mechanism | None = None
    """How we log in; not at all where none is set."""
    username: str = ""
    """For PLAIN and SCRAM."""
    password: SecretStr = SecretStr("")
    """For PLAIN and SCRAM."""
    token: SecretStr = SecretStr("")
    """For OAUTHBEARER: the token itself, as a sidecar or a secret provides it."""
    token_file: Path | None = None
    """For OAUTHBEARER: a file that always holds a valid token; read at every login."""
    client_id: str = "streamproc"
    """Name in the brokers' logs and quotas."""
    group: str = Field(default="streamproc", pattern=r"^[A-Za-z0-9._-]+$")
    """Consumer group of the workers, and the first part of their transactional ids. Never change it: the rows stay."""
    instance: str | None = None
    """Name of this worker, kept over restarts: then a restart within the session moves no partition (static member)."""
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    """Stands before the name of every topic, for several installations on one cluster."""
    replication: int = Field(default=3, ge=1)
    """Replicas of each topic that `topics apply` creates; 1 on a single development broker."""
    production: bool = True
    """Whether `topics check` and the workers demand replication 3, min.insync.replicas 2 and clean elections."""
    session_timeout: float = Field(default=10.0, ge=1.0)
    """Seconds after which a worker that is not heard of loses its partitions."""
    transaction_timeout: float = Field(default=60.0, ge=10.0)
    """Seconds after which the broker aborts a transaction that nobody ends. Shorter ones were seen to break exactness
    after a broker's crash."""
    batch: int = Field(default=2000, ge=1)
    """Records of one micro-batch at most."""
    queue_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Bytes of the gateway that may wait for the broker; beyond that senders are told to come again (503)."""

    @model_validator(mode="after")
    def _complete(self) -> Config:
        if self.sasl in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512") and not self.username:
            raise ValueError(f"sasl {self.sasl} needs a username and a password")
        if self.sasl == "OAUTHBEARER" and not self.token.get_secret_value() and self.token_file is None:
            raise ValueError("sasl OAUTHBEARER needs a token or a token_file")
        return self

    def topic(self, name: str) -> str:
        """Return the name of a topic at the broker."""
        return f"{self.prefix}{name}"

    @property
    def group_id(self) -> str:
        """Name of the consumer group at the broker."""
        return f"{self.prefix}{self.group}"

    def state_topic(self, node: str) -> str:
        """Return the name of the topic that keeps a node's rows and positions."""
        return self.topic(f"state-{node}")

    def transactional_id(self, node: str, partition: int) -> str:
        """Return the id under which one node partition commits: whoever claims it shuts its predecessor out."""
        return f"{self.group_id}-{node}-{partition}"

    @property
    def protocol(self) -> str:
        """Kafka's word for how connections are secured."""
        return ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return how TLS is done, None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=str(self.tls_ca) if self.tls_ca else None)
        if self.tls_certificate is not None:
            context.load_cert_chain(self.tls_certificate, self.tls_key)
        return context

    def read_token(self) -> str:
        """Return the token for OAUTHBEARER."""
        return self.token_file.read_text().strip() if self.token_file else self.token.get_secret_value()

    def plain(self) -> dict[str, Any]:
        """Return the options of a login by name and password."""
        return {
            "sasl_mechanism": self.sasl,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password.get_secret_value(),
        }
