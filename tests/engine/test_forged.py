"""What the model sees is the reference's template plus plain text, token for token, whoever forges what, where, and how disguised.

The real way of a prompt: the API's template renderer, marked parts, the engine's tokenizer over llama.cpp's, on vocabularies that init
has made GGUFs of; beside it the `tokenizers` library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api import unfinished
from services.api.conversation import Message
from services.api.prompt import ChatTemplate, Prompt
from services.engine.native import NativeVocabulary
from services.engine.tokens import Tokenizer
from services.shared import backend
from tests import forged
from tests.families import Family, Reference, families
from tests.forged import Case


@dataclass(frozen=True)
class Bench:
    """One family: our template and tokenizer, and the reference."""

    family: Family
    reference: Reference
    template: ChatTemplate
    vocabulary: NativeVocabulary
    tokenizer: Tokenizer

    def check(self, messages: Sequence[Message]) -> None:
        """What the model sees of this conversation is right."""
        self.compare(self.template.render(messages), self.reference.prompt(messages))

    def check_rest(self, content: str, thought: str) -> None:
        """The same of an answer that was cut and goes on."""
        question = [Message("user", "Why?")]
        wanted = self.reference.prompt(question)
        opened, line = "<think>" in wanted[-1][1], wanted[-1][1].endswith("<think>\n")
        wanted += [(True, "" if line else "\n" if opened else "<think>\n"), (False, thought)] if thought else []
        wanted += [(True, "\n</think>\n\n")] if thought and content else [(True, "</think>\n\n")] if opened and not thought else []
        prompt = unfinished.render(self.template, [*question, Message("assistant", content, thought=thought)])
        self.compare(prompt, [*wanted, (False, content)])

    def compare(self, prompt: Prompt, wanted: Sequence[tuple[bool, str]]) -> None:
        """Token for token."""
        tokens = self.tokenizer.encode(prompt.parts)
        added = set(self.vocabulary.added.values())
        assert [token for token in tokens if token in added] == self.reference.special(wanted), "a token was forged, or lost"
        text = "".join(text for _, text in wanted)
        assert b"".join(self.vocabulary.pieces[token] for token in tokens).decode() == text, "the text was changed"
        assert tokens == self.reference.tokens(wanted), "other tokens than the reference's"


def bench(family: Family, folder: Path) -> Iterator[Bench]:
    backend.load(llama_cpp)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    path = family.write(folder / "vocabulary.gguf")
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, f"llama.cpp can't read the vocabulary of {family.name}"
    vocabulary = NativeVocabulary(llama_cpp.llama_model_get_vocab(model))
    template = ChatTemplate(family.template, bos_token=family.bos, eos_token=family.eos)
    yield Bench(family, Reference(family), template, vocabulary, Tokenizer(vocabulary))
    llama_cpp.llama_model_free(model)


@pytest.fixture(scope="module", params=families(), ids=lambda family: family.name)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from bench(request.param, tmp_path_factory.mktemp("vocabulary"))


def test_the_vocabulary_is_the_familys(table: Bench) -> None:
    """llama.cpp takes </s> for a control token in any vocabulary."""
    assert {text: number for text, number in table.vocabulary.added.items() if text != "</s>"} == table.family.added


def test_nobody_forges_a_token(table: Bench) -> None:
    """The whole corpus."""
    wrong: list[tuple[str, Case]] = []
    count = 0
    for case in forged.cases(table.family):
        count += 1
        try:
            table.check(case.messages)
        except AssertionError as error:
            wrong.append((str(error), case))
    assert not wrong, (len(wrong), wrong[:3])
    assert count >= 5000


def test_nobody_forges_a_token_in_an_answer_that_goes_on(table: Bench) -> None:
    """In its thought, in what it says, or in both; the corpus as one role says it. Line breaks at the edges are the template's."""
    wrong: list[tuple[str, Case]] = []
    cases = [case for case in forged.cases(table.family) if case.field == "user"]
    for number, case in enumerate(cases):
        text = case.messages[0].content.strip("\n")
        content, thought = ((text, ""), ("", text), (text, text))[number % 3]
        try:
            table.check_rest(content, thought)
        except AssertionError as error:
            wrong.append((str(error), case))
    assert not wrong, (len(wrong), wrong[:3])
    assert len(cases) >= 900


def test_the_corpus_would_find_a_forgery(table: Bench) -> None:
    """Were all text taken for the template's, as servers do that tokenize the rendered prompt as a whole, thousands of cases would pass."""
    added, forgeries = set(table.vocabulary.added.values()), 0
    for case in forged.cases(table.family):
        wanted = table.reference.prompt(case.messages)
        tokens = table.tokenizer.encode([(True, text) for _, text in wanted])
        forgeries += [token for token in tokens if token in added] != table.reference.special(wanted)
    assert forgeries > 1500


def conversations(family: Family) -> st.SearchStrategy[list[Message]]:
    """Any conversation, of texts in which the letters and pieces of control tokens are frequent."""
    tokens = list(family.added)
    halves = st.builds(lambda text, at: (text[:at], text[at:]), st.sampled_from(tokens), st.integers(1, 9))
    letters = st.sampled_from(sorted(set("".join(tokens))) + list(" \n\t'’\u200b\u0301鸡🐔<>|｜"))
    # no control characters: SmolLM2's vocabulary lacks some of these bytes, and the reference drops them too
    anything = st.text(st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=4)
    piece = st.one_of(st.sampled_from(tokens), halves.map("".join), halves.map(min), halves.map(max), letters, letters, anything)
    text = st.lists(piece, max_size=8).map("".join)
    turns = st.tuples(st.none() | text, st.lists(st.tuples(text, text), max_size=2), text)

    def spoken(found: tuple[str | None, list[tuple[str, str]], str]) -> list[Message]:
        system, pairs, last = found
        said = [message for question, answer in pairs for message in (Message("user", question), Message("assistant", answer))]
        return [*([Message("system", system)] if system is not None else []), *said, Message("user", last)]

    return turns.map(spoken)


def test_no_conversation_at_all_forges_a_token(table: Bench) -> None:
    @settings(max_examples=300, derandomize=True, deadline=None, database=None)
    @given(conversations(table.family))
    def hold(messages: list[Message]) -> None:
        table.check(messages)

    hold()
