"""Where a command works: the data directory of one machine, or the topics of a Kafka cluster.

What knows Kafka is imported inside the functions: Faust and aiokafka take a second to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from streamproc.commands.common import ConfigFile
from streamproc.ports import Entry
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.spool import submit

if TYPE_CHECKING:
    from streamproc.settings import Settings

OnKafka = Annotated[
    bool,
    typer.Option(
        "--kafka", envvar="STREAMPROC_KAFKA", help="The pipeline on Kafka (settings `kafka`), not a data directory."
    ),
]

POLICIES = ("policies", "versions", "state-decide")
"""Topics that tell what is silenced, armed and active."""
INCIDENTS = ("incidents.enriched", "pages")
STATUS = (*POLICIES, "state-deliver", "dead-letters")
LETTERS = ("dead-letters",)


class Site(Protocol):
    """A pipeline that can be looked at, and told something."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def desk(self) -> SqliteDesk:
        """What can be looked at."""

    def append(self, entries: Sequence[Entry]) -> bool:
        """Give it entries, durable when this returns; True where a running pipeline has them.

        Raises:
            StreamprocError: it cannot take them; nothing is promised.
        """


class Directory:
    """The data directory of one machine."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.desk = SqliteDesk(folder)
        self._folder = folder

    def append(self, entries: Sequence[Entry]) -> bool:
        """Leave entries in the directory; True once its process has taken them."""
        return submit(self._folder, entries, wait=5.0 if self.desk.attended() else 0.0)


class Cluster:
    """The topics of a Kafka cluster, as they stood when the command began."""

    def __init__(self, settings: Settings, folder: Path, only: Collection[str]) -> None:
        from streamproc.distributed import look_at  # noqa: PLC0415  loads Faust

        self._settings = settings
        self.desk: SqliteDesk = asyncio.run(look_at(settings, folder, only))
        self.name = f"Kafka at {', '.join(settings.kafka.bootstrap)}"

    def append(self, entries: Sequence[Entry]) -> bool:
        """Append entries to their topics; True where a worker is there to fold them."""
        from streamproc.distributed import append_to  # noqa: PLC0415  loads Faust

        asyncio.run(append_to(self._settings, entries))
        return self.desk.attended()


@contextmanager
def opened(folder: Path, config: ConfigFile, only: Collection[str], *, kafka: bool) -> Iterator[Site]:
    """Open a site.

    Args:
        folder: the data directory, unless on Kafka.
        config: the settings file; it says where Kafka is.
        only: topics that are needed; the others are not read from Kafka.
        kafka: whether it is the one on Kafka.

    Raises:
        StreamprocError: there is nothing, or it cannot be read.
    """
    if not kafka:
        yield Directory(folder)
        return
    from streamproc import settings as configuration  # noqa: PLC0415  the others do without them

    with TemporaryDirectory(prefix="streamproc-") as place:
        yield Cluster(configuration.load(config), Path(place), only)


def when(*, taken: bool) -> str:
    """Return from when on something that was given to the pipeline counts."""
    return "The running pipeline has it." if taken else "No pipeline runs here now: it counts from the next start on."
