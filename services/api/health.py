"""/livez, /readyz, /readyz/room and /v1/status: is the process alive, can it answer, at once, and what is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from services.api.appliance import Appliance
from services.api.errors import NotFound

router = APIRouter()


@router.get("/livez")
async def livez() -> JSONResponse:
    """200 as long as this process serves."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """200 when a model is loaded and answers; 503 with the reason before. 404 when this is about to stop: a balancer then lets it finish
    what it has and gives it nothing new (docker/haproxy.cfg)."""
    home: Appliance = request.app.state.appliance
    _stays(home)
    home.model()
    return JSONResponse({"status": "ready"})


@router.get("/readyz/room")
async def room(request: Request) -> JSONResponse:
    """200 when a request would begin at once, 404 when it would wait: by that a balancer before several of these asks another one.
    503 and 404 as /readyz, too."""
    home: Appliance = request.app.state.appliance
    _stays(home)
    home.model()
    if not await home.has_room():
        raise NotFound("a request would wait here now")
    return JSONResponse({"status": "room"})


def _stays(home: Appliance) -> None:
    if home.leaving:
        raise NotFound("nothing new is taken here: this is about to stop")


@router.get("/v1/status")
async def status(request: Request) -> JSONResponse:
    """State, set-up progress, model with provenance, and load."""
    home: Appliance = request.app.state.appliance
    return JSONResponse(await home.status())
