"""The table of clients and features in docs/api.md is what the clients find: the real engine and the real API with the demo model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.scripted import Stand, stand, until
from tests.clients import table
from tests.engine.process import engine

# The demo's own template with a place for tools, which the model has not learned to use: a call comes only when it is forced.
TOOLS = (
    "{% if tools %}\nTools:{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n"
    '<tool_call>{"name": ..., "arguments": ...}</tool_call>\n{% endif %}'
)
RESULTS = "{%- if message['role'] == 'tool' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
CALLS = (
    "{%- if message['role'] == 'assistant' and message['tool_calls'] %}{{'<｜Assistant｜>'}}{% for call in message['tool_calls'] %}"
    "<tool_call>{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}</tool_call>{% endfor %}"
    "{{'<｜end▁of▁sentence｜>'}}{%- endif %}"
)


@pytest.fixture(scope="module")
def tooled(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    home = tmp_path_factory.mktemp("clients")
    served = (demo_volume / "current").resolve()
    volume = home / "clients/models/demo/tools"
    shutil.copytree(served, volume)
    card = json.loads((volume / "manifest.json").read_text())
    beginning, system, turns = card["chat_template"].rpartition("{{ns.system_prompt}}")
    loop, last, end = turns.rpartition("{%- endfor -%}")
    assert beginning and loop
    card["chat_template"] = beginning + system + TOOLS + loop + CALLS + RESULTS + last + end
    (volume / "manifest.json").write_text(json.dumps(card))
    (home / "clients/current").symlink_to(volume)
    with engine(home, home / "clients", ENGINE__CONTEXT=2048, ENGINE__CELLS=4096) as process, stand(home, engine=False) as api:
        process.connect().close()
        until(lambda: api.app.state.appliance.state() == "ready")
        yield api


def test_the_table_in_the_documentation_is_what_clients_find(tooled: Stand, pytestconfig: pytest.Config) -> None:
    found = table.table(tooled.url)
    print(found)
    assert [line for line in found.splitlines() if "no: " in line] == []
    if pytestconfig.getoption("--write-table"):
        table.write(found)
    assert found == table.committed()
