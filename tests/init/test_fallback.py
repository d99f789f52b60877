"""The demo stands in when the hub can't be reached, says so, and gives way as soon as the wanted model can be had."""

from __future__ import annotations

from tests.hub import Hub
from tests.init.conftest import Init

NOWHERE = "http://127.0.0.1:9"


def test_the_demo_stands_in_until_the_hub_answers(init: Init, hub: Hub, repo: str) -> None:
    log = init.ready("--model", repo, "--quant", "q8_0", MODEL__FALLBACK="demo", HF_ENDPOINT=NOWHERE)
    notice = init.progress["notice"]
    assert notice.startswith(f"{repo} could not be had, so the demo model stands in, which can do very little: {NOWHERE} can't be reached")
    assert f"warning init   {notice}" in log
    assert init.progress["state"] == "ready" and init.progress["model"] == "demo" and init.current.name == "demo"
    init.ready("--model", repo, "--quant", "q8_0", MODEL__FALLBACK="demo", HF_HUB_OFFLINE=1)
    assert "stands in" in init.progress["notice"], "said again at every start"
    init.ready("--model", repo, "--quant", "q8_0", MODEL__FALLBACK="demo")
    assert init.progress["notice"] is None and init.current.source.repo == repo
    assert str((init.volume / "previous").readlink()) == "models/demo/q8_0"
    init.ready("--model", repo, "--quant", "q8_0", MODEL__FALLBACK="demo", HF_ENDPOINT=NOWHERE)
    assert init.progress["notice"] is None and init.current.source.repo == repo, "prepared once, it needs no hub"


def test_a_downloaded_checkpoint_needs_no_hub_for_another_quant(init: Init, repo: str) -> None:
    init.ready("--model", repo, "--quant", "q8_0")
    init.ready("--model", repo, "--quant", "bf16", HF_HUB_OFFLINE=1)
    assert init.current.quant == "bf16"


def test_only_an_absent_hub_is_a_reason(init: Init, hub: Hub) -> None:
    assert "has no model someone/else" in init.refused("--model", "someone/else", MODEL__FALLBACK="demo")
    assert init.written() == []
