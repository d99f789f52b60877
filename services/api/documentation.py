"""/docs: the OpenAPI document as a page, by Swagger UI out of the package fastapi-offline. Nothing of it comes from another host.

The policy lets the page run its own scripts only and talk to nobody but this API.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from services.api.errors import NotFound

router = APIRouter(include_in_schema=False)
KINDS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon.png": "image/png"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # Swagger UI sets styles on its elements
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Cloister: the API</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({url: "docs/openapi.json", dom_id: "#page", deepLinking: true, defaultModelsExpandDepth: 0, validatorUrl: null});
"""


@router.get("/docs")
async def page() -> Response:
    """The page."""
    return HTMLResponse(PAGE, headers=HEADERS)


@router.get("/docs/start.js")
async def start() -> Response:
    """What starts Swagger UI."""
    return Response(START, media_type="text/javascript", headers=HEADERS)


@router.get("/docs/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document, open to everybody like the page."""
    return JSONResponse({**request.app.openapi(), "servers": [{"url": ".."}]})  # wherever a proxy shows it


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in KINDS:
        raise NotFound(f"there is no /docs/{name} here")
    content = (files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=KINDS[name], headers={**HEADERS, "Cache-Control": "max-age=86400"})


def describe(app: FastAPI) -> None:
    """Say in the OpenAPI document how a key is sent."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer", "description": "An API key, where Cloister asks for one (scripts/keys)"}
        document["security"] = [{"key": []}, {}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
