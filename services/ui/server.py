"""The web server of the page: Gradio in a FastAPI app behind the door, run by uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from types import FrameType

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from services.shared import secret
from services.shared.hosts import Hosts
from services.shared.settings import Settings
from services.ui import door, page, session, theme
from services.ui.access import Access
from services.ui.chat import Chat
from services.ui.client import Client
from services.ui.desk import Desk
from services.ui.history import History
from services.ui.origin import Origin
from services.ui.status import Watch
from services.ui.streams import Streams

# Seconds that answers under way get when the page is to end.
GRACE = 2


def create_app(config: Settings, chat: Chat, client: Client, watch: Watch) -> FastAPI:
    """The app for these settings; it keeps a history of the status as long as it runs, and closes the client when it ends.

    Raises:
        SecretError: the file of the page's passwords can't be used.
    """
    passwords = secret.Secrets(config.ui.password)
    history = History(watch.current)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            recording = asyncio.create_task(history.record())
            yield
            recording.cancel()

    app = FastAPI(title="Cloister", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    app.add_api_route("/read", Desk(client, watch).take, methods=["POST"])
    app.mount(door.ASSETS_PATH, StaticFiles(directory=door.ASSETS))
    gr.mount_gradio_app(
        app,
        page.build(chat, watch, history),
        path="/",
        server_name=config.ui.host,
        server_port=config.ui.port,
        theme=theme.build(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        root_path=None if config.ui.path == "/" else config.ui.path.rstrip("/"),
    )
    gradio = next(route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, gr.routes.App))
    session.forget(gradio)
    # The whole conversation travels with a question, thoughts included: that is more than the API is sent of it.
    app.add_middleware(Streams)
    app.add_middleware(Access, passwords=passwords, path=config.ui.path, gateway=config.ui.published is not None)
    door.guard(app, limit=4 * config.api.max_body)
    addresses = [name for name in (config.ui.host, config.ui.published) if name]
    app.add_middleware(Origin, hosts=Hosts(addresses, config.api.hosts), passwords=passwords)
    return app


class _Server(uvicorn.Server):
    """On a signal, answers under way end first, so that their streams are closed and not torn."""

    def __init__(self, config: uvicorn.Config, chat: Chat) -> None:
        super().__init__(config)
        self._chat = chat

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._chat.end()
        super().handle_exit(sig, frame)


def serve(config: Settings) -> int:
    """Serve until a signal; the exit code, 1 when the port can't be had.

    Raises:
        SecretError: the page's key or password can't be used.
    """
    host, port = config.ui.host, config.ui.port
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        sys.stderr.write(
            f"cloister: the page can't listen on {host}:{port} ({error.strerror}); "
            "stop what uses the port or set [ui] port (CLOISTER_UI__PORT)\n"
        )
        return 1
    client = Client(config.ui.api, key=secret.plain(config.ui.key))
    watch = Watch(client)
    chat = Chat(client, watch.current)
    settings = uvicorn.Config(
        create_app(config, chat, client, watch),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    _Server(settings, chat).run()
    return 0
