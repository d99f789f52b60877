"""API keys: asked for once there are any, in OpenAI's shape, and never for the health checks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.shared import settings
from services.shared.secret import SecretError, digest
from services.shared.settings import Settings


def config(tmp_path: Path, keys: str | None) -> Settings:
    paths = {f"CLOISTER_PATHS__{name}": str(tmp_path / name.lower()) for name in ("VOLUME", "RUN", "PROGRESS", "LOGS")}
    loaded = settings.load(paths)
    if keys is None:
        return loaded
    file = tmp_path / "keys"
    file.write_text(keys)
    return dataclasses.replace(loaded, api=dataclasses.replace(loaded.api, keys=file))


def test_without_keys_everyone_is_let_in(tmp_path: Path) -> None:
    with TestClient(create_app(config(tmp_path, None)), base_url="http://localhost") as client:
        assert client.get("/v1/status").status_code == 200


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 401),
        ({"Authorization": "Bearer cl-wrong"}, 401),
        ({"Authorization": "Basic cl-right"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "bearer cl-right"}, 200),
        ({"X-API-Key": "cl-right"}, 200),
    ],
)
def test_a_known_key_is_needed(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with TestClient(create_app(config(tmp_path, f"anna {digest('cl-right').hex()}\n"))) as client:
        answer = client.get("/v1/status", headers=headers)
        assert answer.status_code == status
        if status == 401:
            error = answer.json()["error"]
            assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_api_key", None)
            assert answer.headers["WWW-Authenticate"] == "Bearer" and "cl-" not in answer.text
        assert client.get("/livez").status_code == 200
        assert client.post("/v1/chat/completions", content=b"{" * 10).status_code == 401


def test_a_file_that_holds_no_keys_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SecretError):
        create_app(config(tmp_path, "cl-plain\n"))


def test_keys_come_and_go_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once there have been keys, an empty file lets nobody in, and one that is broken changes nothing."""
    anna, ben = (f"{name} {digest(f'cl-{name}').hex()}" for name in ("anna", "ben"))
    settings_ = config(tmp_path, "")
    file = settings_.api.keys
    assert file is not None
    with TestClient(create_app(settings_), base_url="http://localhost") as client:

        def status(key: str = "") -> int:
            return client.get("/v1/status", headers={"X-API-Key": key} if key else {}).status_code

        assert status() == 200
        file.write_text(anna + "\n")
        assert (status(), status("cl-anna"), status("cl-ben")) == (401, 200, 401)
        file.write_text(f"{anna}\n{ben} rpm=9\n")
        assert (status("cl-anna"), status("cl-ben")) == (200, 200)
        for broken in ("cl-plain", f"{ben} speed=9", f"{ben} rpm=none"):
            file.write_text(broken)
            assert (status("cl-anna"), status("cl-ben"), status()) == (200, 200, 401)
        file.unlink()
        assert (status("cl-anna"), status()) == (200, 401)
        file.write_text("")
        assert (status("cl-anna"), status()) == (401, 401)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 4 and all(error.startswith("the API keys stay as they were: ") for error in errors)
    assert not [error for error in errors if "plain" in error]
