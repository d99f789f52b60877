"""The web server of the page: Gradio in a FastAPI app behind the door, run by uvicorn."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from services.shared.settings import Settings
from services.ui import door, page, theme
from services.ui.chat import Chat
from services.ui.client import Client
from services.ui.status import Watch

# Seconds that answers under way get when the page is to end.
GRACE = 2


def create_app(config: Settings) -> FastAPI:
    """The app for these settings."""
    client = Client(config.ui.api)
    watch = Watch(client)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(title="Cloister", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    app.mount(door.ASSETS_PATH, StaticFiles(directory=door.ASSETS))
    gr.mount_gradio_app(
        app,
        page.build(Chat(client, watch.current), watch),
        path="/",
        server_name=config.ui.host,
        server_port=config.ui.port,
        theme=theme.build(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
    )
    # The whole conversation travels with a question: as thoughts are many, more than the API takes of questions and answers.
    door.guard(app, limit=4 * config.api.max_body)
    return app


def serve(config: Settings) -> int:
    """Serve until a signal; the exit code, 1 when the port can't be had."""
    try:
        with socket.create_server((config.ui.host, config.ui.port), backlog=128, reuse_port=False):
            pass
    except OSError as error:
        sys.stderr.write(
            f"cloister: the page can't listen on {config.ui.host}:{config.ui.port} ({error.strerror}); "
            "stop what uses the port or set [ui] port (CLOISTER_UI__PORT)\n"
        )
        return 1
    uvicorn.run(
        create_app(config),
        host=config.ui.host,
        port=config.ui.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    return 0
