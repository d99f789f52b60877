"""What a request may hold at most: all the numbers in one place, and the checks of a conversation and of wishes against them.

Knows nothing of HTTP or of dialects. The size of a whole body is a setting, `[api] max_body`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from services.api.conversation import Conversation, Wanted
from services.api.errors import InvalidRequest

MAX_DEPTH = 128  # lists and objects in one another; the parser recurses
MAX_CONTAINERS = 50_000  # lists and objects of a body
MAX_STRING = 2_000_000  # bytes of one string as it stands in the body
MAX_MESSAGES = 2_000
MAX_TOOLS = 128  # OpenAI's own number
MAX_SCHEMA = 128 << 10  # characters of a JSON schema as text, and of all tools together
MAX_GRAMMAR = 128 << 10  # characters of a grammar
MAX_STOPS = 16
MAX_STOP = 1_000  # characters


def check_conversation(conversation: Conversation) -> None:
    """Compare with MAX_MESSAGES, MAX_TOOLS and MAX_SCHEMA.

    Raises:
        InvalidRequest: it is too much; names what and how much is allowed.
    """
    tools = conversation.tools
    _at_most(len(conversation.messages), MAX_MESSAGES, "messages", "messages")
    _at_most(len(tools), MAX_TOOLS, "tools", "tools")
    size = sum(len(tool.name) + len(tool.description) + _length(tool.parameters) for tool in tools)
    _at_most(size, MAX_SCHEMA, "characters", "tools")


def check_wishes(wanted: Wanted) -> None:
    """Compare with MAX_STOPS, MAX_STOP, MAX_GRAMMAR and MAX_SCHEMA.

    Raises:
        InvalidRequest: it is too much; names what and how much is allowed.
    """
    _at_most(len(wanted.stop), MAX_STOPS, "strings", "stop")
    _at_most(max(map(len, wanted.stop), default=0), MAX_STOP, "characters in one string", "stop")
    _at_most(len(wanted.grammar or ""), MAX_GRAMMAR, "characters", "grammar")
    _at_most(len(wanted.json_schema or ""), MAX_SCHEMA, "characters", "json_schema")


def _at_most(found: int, allowed: int, what: str, param: str) -> None:
    if found > allowed:
        raise InvalidRequest(f"{param}: {found} {what}; at most {allowed} are allowed", param=param, code="limit_exceeded")


def _length(value: Mapping[str, Any]) -> int:
    return len(json.dumps(value, ensure_ascii=False)) if value else 0
