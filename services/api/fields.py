"""What every dialect does with a request's fields, at any depth: refuse by name those that are known but not served, and tell those that
nobody knows.

Also the types that fields of all dialects share. Knows no dialect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from services.api.errors import InvalidRequest

SHOWN = 20  # unknown fields that a header names
LONGEST = 100  # characters of a name in it
DEEPEST = 64  # levels of JSON in a field


def _characters(text: str) -> str:
    """JSON can spell half of a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half of a surrogate pair, which is no character") from None
    return text


def _listed(stop: Any) -> Any:
    """One stop string is a list of one."""
    return [stop] if isinstance(stop, str) else stop


def _plain(value: Any) -> Any:
    """JSON of a depth that everybody's parser takes, with no half characters in any string or key."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _characters(one)
            elif isinstance(one, Mapping):
                inner += [*one.keys(), *one.values()]
            elif isinstance(one, list):
                inner += one
        level, depth = inner, depth + 1
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return value


Json = Annotated[dict[str, Any], AfterValidator(_plain)]
Text = Annotated[str, AfterValidator(_characters)]
StopStrings = Annotated[Annotated[list[Annotated[Text, Field(min_length=1)]], Field(max_length=16)] | None, BeforeValidator(_listed)]

# how the next token is chosen, with the ranges of OpenAI's documents; top_k -1 and 0 are off
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=-1, le=1_000_000)]
MinP = Annotated[float, Field(ge=0, le=1)]
RepeatPenalty = Annotated[float, Field(gt=0, le=10)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LogitBias = dict[Annotated[int, Field(ge=0, lt=2**31)], Annotated[float, Field(ge=-100, le=100)]]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


Refused = Mapping[str, tuple[Any, ...]]  # names of fields, each with the values that change nothing


class Body(BaseModel):
    """An object in a request. Its fields are served; it says itself which others are known: those that are REFUSED unless their value
    changes nothing, and those that are INDIFFERENT to the answer."""

    model_config = ConfigDict(extra="allow")
    REFUSED: ClassVar[Refused] = {}
    INDIFFERENT: ClassVar[Collection[str]] = frozenset()

    def unknown(self, place: str = "") -> list[str]:
        """Where there are fields that nobody knows, in this object and all within it, as messages.0.colour.

        Raises:
            InvalidRequest: a field is known, but not supported.
        """
        extra = self.model_extra or {}
        refuse(extra, self.REFUSED, place)
        names = [place + name for name in extra if name not in self.REFUSED and name not in self.INDIFFERENT]
        for name, field in type(self).model_fields.items():
            for where, inner in _within(getattr(self, name), place + (field.alias or name)):
                names += inner.unknown(f"{where}.")
        return names

    def served(self) -> dict[str, Any]:
        """As JSON, without the fields that are not served."""
        return self.model_dump(mode="json", by_alias=True, include=set(type(self).model_fields))


def _within(value: Any, place: str) -> Iterator[tuple[str, Body]]:
    """The objects in a field's value. What is no Body is data of the client's own, such as a schema."""
    if isinstance(value, Body):
        yield place, value
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _within(entry, f"{place}.{number}")


def refuse(fields: Mapping[str, Any], refused: Refused, place: str = "") -> None:
    """Check fields against those that are known but not supported, each with the values that change nothing.

    Raises:
        InvalidRequest: one of them has a value that would change something.
    """
    for name in fields.keys() & refused.keys():
        if fields[name] not in refused[name]:
            raise InvalidRequest(f"{place}{name} is not supported by this version", param=place + name, code="unsupported_parameter")


def ignored(names: Collection[str], *, strict: bool) -> dict[str, str]:
    """The header that tells of unknown fields. `strict`: they are an error instead.

    Raises:
        InvalidRequest: there are some, in strict mode.
    """
    if not names:
        return {}
    shown = sorted(quote(name, errors="replace")[:LONGEST] for name in names)[:SHOWN]
    if strict:
        raise InvalidRequest(
            f"unknown: {', '.join(shown)}; [api] strict refuses what it does not know", param=shown[0], code="unknown_parameter"
        )
    return {"X-Cloister-Ignored": ", ".join(shown)}
