"""What people look at, of a pipeline on Kafka: the embedded runtime's desk over a mirror, and how the group stands."""

from __future__ import annotations

from pathlib import Path

from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.faust.group import Group
from streamproc.runtime.faust.mirrorfile import FOLDER
from streamproc.state import PAGE, PageRow
from streamproc.views import PipelineStatus


class KafkaDesk(SqliteDesk):
    """Read models over a mirror.

    Args:
        folder: the folder that the mirror was given.
        group: tells how the group stood when it was last looked at.

    Raises:
        Unusable: there is no mirror in the folder; or, later, it cannot be read.
    """

    def __init__(self, folder: Path, group: Group) -> None:
        super().__init__(folder / FOLDER)
        self._group = group

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands, as far as the mirror has read."""
        standing = self._group.standing
        return (
            super()
            .status()
            .model_copy(
                update={
                    "ready": standing.ready,
                    "why_not": standing.why_not,
                    "nodes": standing.nodes,
                    "workers": standing.workers,
                }
            )
        )

    def pages(self) -> list[PageRow]:
        """Return the rows of all incidents."""
        with self._reading() as db:
            found = db.execute("SELECT value FROM rows WHERE node='decide' AND tbl=?", (PAGE.name,)).fetchall()
        return [PageRow.model_validate_json(value) for (value,) in found]

    def attended(self) -> bool:
        """Return whether any worker has joined the group."""
        return bool(self._group.standing.workers)
