"""What tests and people ask of the emulator, under /_emulator: look, act as a responder, order faults, reset."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from streamproc.core.errors import Rejected
from streamproc.emulator.account import Deed
from streamproc.emulator.directory import Directory
from streamproc.emulator.emulator import Asked, Emulator, Taken
from streamproc.emulator.faults import Fault
from streamproc.emulator.incident import Alert, Incident
from streamproc.emulator.webhooks import Delivery


class DeedRequest(BaseModel):
    """Who does it, and with what."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    by: str = "Responder 1"
    """The person."""
    value: str = ""
    """Text of a note, name of the new assignee, priority (P1) or urgency (high, low)."""


class RestLimit(BaseModel):
    """Another limit of the REST API, until a reset."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    requests_per_minute: int = Field(ge=0)
    """Requests a minute for each API key; 0 takes none."""


def control(emulator: Emulator) -> APIRouter:
    """Return the routes under /_emulator."""
    router = APIRouter(prefix="/_emulator")
    _add_views(router, emulator)
    _add_faults(router, emulator)

    @router.delete("/state", status_code=204)
    async def reset() -> None:
        emulator.reset()

    @router.put("/directory")
    async def direct(directory: Directory) -> Directory:
        emulator.directory = directory
        return directory

    @router.put("/rest-limit", status_code=204)
    async def limit(asked: RestLimit) -> None:
        emulator.rest_limit = asked.requests_per_minute

    @router.post("/incidents/{incident_id}/{deed}")
    async def act(incident_id: str, deed: str, request: DeedRequest | None = None) -> Incident:
        asked = request or DeedRequest()
        incident = emulator.account.incidents.get(incident_id)
        known = Deed.__members__.get(deed.upper())
        if incident is None or known is None:
            raise HTTPException(404, f"no incident {incident_id}, or nobody can {deed} one")
        try:
            emulator.act(incident, known, asked.by, asked.value)
        except Rejected as failure:
            raise HTTPException(409, str(failure)) from failure
        return incident

    return router


def _add_views(router: APIRouter, emulator: Emulator) -> None:
    @router.get("/requests")
    async def requests(after: int = 0) -> list[Taken]:
        return [taken for taken in emulator.requests if taken.n > after]

    @router.get("/rest-requests")
    async def rest_requests() -> list[Asked]:
        return list(emulator.rest_requests)

    @router.get("/alerts")
    async def alerts() -> list[Alert]:
        return list(emulator.account.alerts.values())

    @router.get("/incidents")
    async def incidents() -> list[Incident]:
        return list(emulator.account.incidents.values())

    @router.get("/changes")
    async def changes() -> list[dict[str, Any]]:
        return emulator.account.changes

    @router.get("/webhooks")
    async def webhooks() -> list[Delivery]:
        return emulator.webhooks.deliveries


def _add_faults(router: APIRouter, emulator: Emulator) -> None:
    @router.get("/faults")
    async def faults() -> list[Fault]:
        return emulator.faults.all

    @router.post("/faults", status_code=201)
    async def add_fault(fault: Fault) -> Fault:
        emulator.faults.add(fault)
        return fault

    @router.delete("/faults", status_code=204)
    async def clear_faults() -> None:
        emulator.faults.clear()
