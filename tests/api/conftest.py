"""The API in front of a scripted engine, one for each test file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.scripted import Stand, stand


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("api")) as standing:
        yield standing


@pytest.fixture
def api(shared: Stand) -> Stand:
    """The API with a ready engine that remembers nothing of earlier tests."""
    shared.engine.requests.clear()
    shared.engine.cancelled.clear()
    shared.engine.answer("Hello", " there")
    shared.engine.observes = True
    return shared
