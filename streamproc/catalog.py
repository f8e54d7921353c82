"""`topics/*.toml` -> the catalogue: the only list of topics. Code that names another one fails at start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from streamproc.core.errors import Unusable
from streamproc.core.topic import Topic

FILE_NAME = re.compile(r"^(?P<order>\d\d)-(?P<name>.+)\.v(?P<version>\d+)\.toml$")


class UnknownTopic(Unusable, KeyError):
    """Code names a topic that the catalogue does not have."""

    __str__ = Unusable.__str__  # KeyError would show the message quoted


class Catalog(Mapping[str, Topic]):
    """Topics by name, in flow order."""

    def __init__(self, topics: list[Topic]) -> None:
        self._topics = {topic.name: topic for topic in topics}

    def __getitem__(self, name: str) -> Topic:
        try:
            return self._topics[name]
        except KeyError:
            raise UnknownTopic(f"no topic is called {name!r}; topics/ has {', '.join(self._topics)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._topics)

    def __len__(self) -> int:
        return len(self._topics)


def folder() -> Path:
    """Return where the topic files are: inside an installed package, or at the top of a checkout."""
    here = Path(__file__).parent
    packed = here / "_topics"
    return packed if packed.is_dir() else here.parent / "topics"


def load(where: Path | None = None) -> Catalog:
    """Return the catalogue.

    Raises:
        Unusable: a file is missing, misnamed or wrong; the message names it.
    """
    where = where or folder()
    files = sorted(where.glob("*.toml"))
    if not files:
        raise Unusable(f"no topic files in {where}")
    topics = [_topic(file) for file in files]
    names = [topic.name for topic in topics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Unusable(f"{where}: {', '.join(twice)} is the name of two files")
    return Catalog(topics)


def _topic(file: Path) -> Topic:
    named = FILE_NAME.match(file.name)
    if named is None:
        raise Unusable(f"{file.name}: a topic file is called NN-name.vN.toml")
    try:
        topic = Topic.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # pydantic's, tomllib's and the codec's errors are ValueErrors
        raise Unusable(f"{file.name}: {' '.join(str(error).split())}") from error
    if (topic.name, str(topic.version)) != (named["name"], named["version"]):
        raise Unusable(f"{file.name}: the file says {topic.name}.v{topic.version}")
    return topic
