"""Several sensors as one."""

from __future__ import annotations

from streamproc.core.fold import Folded
from streamproc.runtime.engine import Sensor


class Sensors:
    """A sensor that passes on to others, in order."""

    def __init__(self, *sensors: Sensor) -> None:
        self._sensors = sensors

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:
        """Note a micro-batch."""
        for sensor in self._sensors:
            sensor.folded(node, partition, count, folded, seconds)
