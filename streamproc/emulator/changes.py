"""What `PUT /incidents` may change of an incident: checked whole, then done as a person does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from streamproc.core.errors import Rejected
from streamproc.emulator.account import Deed
from streamproc.emulator.directory import identifier
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.gate import invalid
from streamproc.emulator.incident import Incident

_STATUS = {"acknowledged": Deed.ACKNOWLEDGE, "resolved": Deed.RESOLVE}
_Deeds = Iterator[tuple[Deed, str]]


def change(emulator: Emulator, incident: Incident, given: Any, by: str) -> None:
    """Change an incident.

    Args:
        emulator: whose incident it is.
        incident: the incident.
        given: the object of the request.
        by: the person.

    Raises:
        Refused: something is wrong with what was asked, or the incident's state does not allow it.
    """
    if not isinstance(given, dict):
        raise invalid("incident must be an object")
    if unknown := set(given) - {"id", "type", "resolution", "escalation_policy", *_FIELDS}:
        raise invalid(*(f"{name} is not known" for name in sorted(unknown)))
    if "assignments" in given and ("escalation_level" in given or "escalation_policy" in given):
        raise invalid("assignments cannot be given together with an escalation level or policy")
    if incident.status == "resolved" and given.get("status") in _STATUS:
        raise invalid("Incident Already Resolved")
    # The status comes last: a resolved incident takes no more changes.
    deeds = [deed for name, read in _FIELDS.items() if name in given for deed in read(emulator, given, given[name])]
    if "escalation_policy" in given:
        policies = (policy.name for policy in emulator.directory.policies)
        incident.policy = _named("escalation_policy", given["escalation_policy"], policies)
    try:
        for deed, value in deeds:
            emulator.act(incident, deed, by, value)
    except Rejected as failure:
        raise invalid(str(failure)) from failure


def _title(_emulator: Emulator, _given: dict[str, Any], value: Any) -> _Deeds:
    if not isinstance(value, str) or not value.strip():
        raise invalid("title cannot be empty")
    yield Deed.TITLE, value


def _priority(emulator: Emulator, _given: dict[str, Any], value: Any) -> _Deeds:
    yield Deed.PRIORITY, "" if value is None else _named("priority", value, emulator.directory.priorities)


def _urgency(_emulator: Emulator, _given: dict[str, Any], value: Any) -> _Deeds:
    if value not in ("high", "low"):
        raise invalid("urgency must be 'high' or 'low'")
    yield Deed.URGENCY, value


def _assignments(emulator: Emulator, _given: dict[str, Any], value: Any) -> _Deeds:
    if not isinstance(value, list):
        raise invalid("assignments must be a list")
    for one in value:
        assignee = one.get("assignee") if isinstance(one, dict) else None
        yield Deed.REASSIGN, _named("user", assignee, (user.name for user in emulator.directory.users))


def _level(_emulator: Emulator, _given: dict[str, Any], value: Any) -> _Deeds:
    if not isinstance(value, int) or value < 1:
        raise invalid("escalation_level must be a whole number from 1")
    yield Deed.LEVEL, str(value)


def _status(_emulator: Emulator, given: dict[str, Any], value: Any) -> _Deeds:
    if value not in _STATUS:
        raise invalid("status must be 'acknowledged' or 'resolved'")
    if given.get("resolution"):
        yield Deed.ANNOTATE, str(given["resolution"])
    yield _STATUS[value], ""


def _named(kind: str, given: Any, names: Iterable[str]) -> str:
    """Return the name of what a reference means."""
    wanted = given.get("id") if isinstance(given, dict) else None
    for name in names:
        if identifier(kind, name) == wanted:
            return name
    raise invalid(f"{kind} {wanted} does not exist")


_FIELDS: dict[str, Callable[[Emulator, dict[str, Any], Any], _Deeds]] = {
    "title": _title,
    "priority": _priority,
    "urgency": _urgency,
    "assignments": _assignments,
    "escalation_level": _level,
    "status": _status,
}
