"""One line format for everybody."""

from __future__ import annotations

import re
import subprocess
import sys

from services.shared import logs


def test_a_line_says_when_how_grave_and_who() -> None:
    lines = ["from services.shared import logs", "log = logs.start('engine', 'info')", "log.debug('no')"]
    code = "; ".join([*lines, "log.warning('loaded %s', logs.facts(a=1, b=None, c='x'))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ warning engine loaded a=1 c=x\n", done.stderr), done.stderr


def test_facts_leave_out_what_is_unknown() -> None:
    assert logs.facts(request="r1", tokens=0, cause=None) == "request=r1 tokens=0"
