"""schemathesis over our own OpenAPI document: whatever it makes of it, right or wrong, the API has no 5xx to say."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.api.scripted import Stand, stand

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,  # a run finds by chance nothing that the last one did not
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """An API whose engine answers everything."""
    with stand(tmp_path_factory.mktemp("schema")) as standing:
        standing.engine.answer("Hello", " there")
        yield standing


def test_no_request_makes_a_5xx(quick: Stand, caplog: pytest.LogCaptureFixture) -> None:
    document = schemathesis.openapi.from_url(quick.url + "/openapi.json")
    seen: Counter[tuple[str, int]] = Counter()

    for found in document.get_all_operations():
        operation = found.ok()
        modes = list(schemathesis.GenerationMode) if operation.body else [schemathesis.GenerationMode.POSITIVE]
        for mode in modes:

            @SETTINGS
            @given(case=operation.as_strategy(generation_mode=mode))
            def attempt(case: schemathesis.Case) -> None:
                response = case.call(base_url=quick.url, timeout=60)
                seen[case.operation.label, response.status_code] += 1
                assert response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (case.as_curl_command(), response.text)

            attempt()
    assert seen["POST /v1/chat/completions", 200] > 5 and seen["POST /v1/chat/completions", 400] > 20, seen
    assert {label.split()[1] for label, _ in seen} >= {"/v1/models", "/v1/status", "/metrics"}
    assert not [record for record in caplog.records if record.name == "api" and record.levelno >= logging.ERROR]
