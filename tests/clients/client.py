"""A client: one class each, with a method for each feature. What is asked, and what is looked at in the answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

MODEL, TEXT = "demo", "What is 17 × 6?"
QUESTION: list[Any] = [{"role": "user", "content": TEXT}]
SCHEMA = {"type": "object", "properties": {"product": {"type": "integer"}}, "required": ["product"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "multiply", "description": "Product of two numbers", "parameters": SCHEMA}}
RIGHT = "102"


class Product(BaseModel):
    product: int


def right(text: Any) -> None:
    """The answer is told, and nothing of the thought."""
    assert RIGHT in str(text) and "think>" not in str(text), text


def called(arguments: Any) -> None:
    """A tool is called as its schema wants it."""
    found = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert isinstance(found["product"], int), arguments


def refused(ask: Callable[[], Any]) -> None:
    """A model that is not here is named by an error of the client's."""
    try:
        ask()
    except Exception as error:
        assert "gpt-5" in str(error), error
        return
    raise AssertionError("a model that is not here answered")


class Client:
    name = ""

    def __init__(self, url: str) -> None:
        self.url = url
