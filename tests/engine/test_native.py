"""The real library on the demo model: what it computes does not depend on who else is there, and nothing asked of it kills it."""

from __future__ import annotations

import json
import lzma
import random
import threading
import unicodedata
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
from tokenizers import Tokenizer as ReferenceTokenizer

from services.engine.engine import Engine
from services.engine.native import ModelError, NativeModel
from services.engine.request import problem
from services.engine.scheduler import Chunk
from services.engine.sequence import NoSampler, Sequence
from services.engine.speculation import Speculation
from services.engine.text import TextStream
from services.engine.tokens import Tokenizer
from services.shared import wire
from tests.conftest import ROOT

GREEDY = wire.Sampling(temperature=0)
SHORT = 60  # tokens: enough to tell answers apart, and the tests are many
BEGIN, USER, ANSWER = "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜><think>\n"
QUESTIONS = [
    "鸡兔同笼,共有 35 个头,94 条腿,请问鸡和兔各有多少只?",
    "Chickens and rabbits share a cage: 35 heads and 94 legs. How many of each are there?",
    "What is 17 × 6?",
    "你好",
    "如果所有猫都会飞,而咪咪是一只猫,那么咪咪会飞吗?",
    "写一个 Python 函数判断回文字符串。",
    "甲乙两人轮流掷骰子,谁先掷出6谁赢,甲先掷,求甲获胜的概率。",
    "Tell me about the sea 🌊.",
]


class Bench:
    """An engine over the one loaded model, with an empty cache; everything that it says, by request."""

    def __init__(self, model: NativeModel, *, context: int | None = None, cells: int | None = None, **more: Any) -> None:
        self.model = model
        for slot in range(model.slots):
            model.remove(slot, 0, -1)
        context, cells = context or model.context, cells or model.cells
        more.setdefault("speculate", False)
        self.engine = Engine(
            model, context=context, cells=cells, sequences=8, slots=model.slots, step=model.step, queue=100, emit=self._take, **more
        )
        self.texts: dict[str, str] = {}
        self.ends: dict[str, wire.Finished | wire.Failed] = {}

    def _take(self, key: object, message: wire.Message) -> None:
        if isinstance(message, wire.Delta):
            self.texts[message.id] = self.texts.get(message.id, "") + message.text
        elif isinstance(message, wire.Finished | wire.Failed):
            assert message.id not in self.ends
            self.ends[message.id] = message

    def submit(self, name: str, question: str, sampling: wire.Sampling = GREEDY, **fields: object) -> None:
        prompt = ((True, BEGIN + USER), (False, question), (True, ANSWER))
        request = wire.Generate(name, prompt, sampling, in_thought=True, **fields)  # type: ignore[arg-type]
        assert problem(request) is None
        self.engine.submit(name, request, self.engine.encode(prompt))

    def run(self) -> None:
        while self.engine.step():
            pass
        for slot in self.engine.kv._slots:
            last = llama_cpp.llama_memory_seq_pos_max(self.model._memory, slot.number)
            assert last + 1 == slot.length == len(self.engine.kv.held(slot.number)), "the cache's books are wrong"

    def ask(self, question: str, sampling: wire.Sampling = GREEDY, **fields: object) -> str:
        """One request alone; its text."""
        name = f"ask {len(self.ends)}"
        self.submit(name, question, sampling, **fields)
        self.run()
        return self.texts.get(name, "")


@pytest.fixture(scope="module")
def model(demo_volume: Path) -> NativeModel:
    # one thread: several wait for each other, which takes ages while others use the machine
    return NativeModel(demo_volume / "current/model.gguf", context=8192, cells=4096, slots=20, step=256, threads=1)


@pytest.fixture(scope="module")
def alone(model: NativeModel) -> dict[str, str]:
    """The greedy answer to each question, computed alone in an empty cache."""
    return {question: Bench(model).ask(question, max_tokens=SHORT) for question in QUESTIONS}


def test_the_context_is_at_most_what_the_model_was_trained_for(model: NativeModel) -> None:
    assert (model.context, model.cells) == (4096, 4096)


def test_the_demo_thinks_and_answers(model: NativeModel) -> None:
    bench = Bench(model)
    text = bench.ask(QUESTIONS[0])
    thought, _, answer = text.partition("</think>")
    assert "2 × 23 + 4 × 12" in thought and "**23**" in answer and "**12**" in answer
    end = bench.ends["ask 0"]
    assert isinstance(end, wire.Finished) and end.reason == "stop" and 0 < end.thought_tokens < end.generated_tokens


def test_batched_answers_are_those_given_alone(model: NativeModel, alone: dict[str, str]) -> None:
    bench = Bench(model)
    for question in QUESTIONS:
        bench.submit(question, question, max_tokens=SHORT)
    bench.run()
    assert bench.texts == alone


def test_arriving_one_after_the_other_changes_nothing(model: NativeModel, alone: dict[str, str]) -> None:
    bench = Bench(model)
    for question in QUESTIONS:
        bench.submit(question, question, max_tokens=SHORT)
        for _ in range(7):
            bench.engine.step()
    bench.run()
    assert bench.texts == alone


def test_pre_empted_for_want_of_cells_answers_are_the_same(model: NativeModel, alone: dict[str, str]) -> None:
    bench = Bench(model, context=130, cells=150)
    for question in QUESTIONS:
        bench.submit(question, question, max_tokens=SHORT)
    bench.run()
    assert bench.texts == alone
    assert bench.engine.scheduler.preempted


def test_a_reused_prefix_gives_the_answer_of_a_fresh_computation(model: NativeModel, alone: dict[str, str]) -> None:
    bench = Bench(model)
    for question in (*QUESTIONS, *QUESTIONS):
        assert bench.ask(question, max_tokens=SHORT) == alone[question]
    again = [bench.ends[f"ask {number}"] for number in range(len(QUESTIONS), 2 * len(QUESTIONS))]
    assert all(isinstance(end, wire.Finished) and end.cached_tokens == end.prompt_tokens - 1 for end in again)


def test_an_abort_leaves_the_state_intact(model: NativeModel, alone: dict[str, str]) -> None:
    """Cut short at random moments from another thread, again and again."""
    bench, source, done = Bench(model), random.Random(1), threading.Event()

    def disturb() -> None:
        while not done.wait(source.uniform(0, 0.02)):
            model.abort()

    aborted = 0
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for question in QUESTIONS[:3]:
            bench.submit(question, question, max_tokens=SHORT)
        busy = True
        while busy:
            model.rearm()
            busy = bench.engine.step()
            aborted += bench.engine._aborted > 0
    finally:
        done.set()
        thread.join()
        model.rearm()
    assert aborted > 5
    bench.run()
    assert bench.texts == {question: alone[question] for question in QUESTIONS[:3]}


def test_seeds_reproduce_and_differ(model: NativeModel) -> None:
    bench = Bench(model)
    warm = wire.Sampling(temperature=10.0, top_p=1.0, top_k=0)

    def ask(seed: int | None) -> str:
        return bench.ask("你好", replace(warm, seed=seed), max_tokens=12)

    assert ask(5) == ask(5)
    assert ask(-1) == ask(-1)
    assert len({ask(seed) for seed in (1, 2, 3, 2**63 - 1)}) == 4
    assert len({ask(None) for _ in range(3)}) == 3


def test_a_seed_gives_the_same_in_company(model: NativeModel) -> None:
    bench = Bench(model)
    warm = wire.Sampling(temperature=1.0, seed=11)
    text = bench.ask(QUESTIONS[0], warm, max_tokens=SHORT)
    for number, question in enumerate(QUESTIONS):
        bench.submit(str(number), question, warm, max_tokens=SHORT)
    bench.run()
    assert bench.texts["0"] == text


@pytest.mark.parametrize(
    "sampling",
    [
        wire.Sampling(temperature=1e-9),
        wire.Sampling(temperature=1e-300, top_k=0),
        wire.Sampling(temperature=1.5, top_k=1),
        wire.Sampling(temperature=1.5, top_k=0, top_p=0.0),
        wire.Sampling(temperature=1.5, top_p=1e-12),
        wire.Sampling(temperature=1.5, top_k=0, min_p=1.0),
        wire.Sampling(temperature=0, repeat_penalty=1.0, presence_penalty=-0.0),
        wire.Sampling(temperature=0, presence_penalty=1e-9),
    ],
)
def test_each_way_to_be_greedy_is_greedy(model: NativeModel, alone: dict[str, str], sampling: wire.Sampling) -> None:
    assert Bench(model).ask(QUESTIONS[2], sampling, max_tokens=SHORT) == alone[QUESTIONS[2]]


@pytest.mark.parametrize(
    "sampling",
    [
        wire.Sampling(temperature=100, top_p=1, top_k=0),
        wire.Sampling(temperature=100, top_k=2**31 - 1),
        wire.Sampling(temperature=0.00001, top_k=0),
        wire.Sampling(repeat_penalty=0.01),
        wire.Sampling(repeat_penalty=100, presence_penalty=100, frequency_penalty=100),
        wire.Sampling(repeat_penalty=0.01, presence_penalty=-100, frequency_penalty=-100, temperature=0),
        wire.Sampling(frequency_penalty=-100, temperature=100, top_k=0, min_p=1e-30, top_p=1e-30),
    ],
)
def test_extremes_give_some_answer_and_harm_nobody(model: NativeModel, alone: dict[str, str], sampling: wire.Sampling) -> None:
    bench = Bench(model)
    bench.submit("extreme", QUESTIONS[0], sampling, max_tokens=20, ignore_eos=True)
    bench.submit("sane", QUESTIONS[2], max_tokens=SHORT)
    bench.run()
    end = bench.ends["extreme"]
    assert isinstance(end, wire.Finished) and end.generated_tokens == 20
    assert bench.texts["sane"] == alone[QUESTIONS[2]]


def test_penalties_work(model: NativeModel) -> None:
    bench = Bench(model)
    plain = bench.ask(QUESTIONS[0], max_tokens=40)
    for penalty in ({"presence_penalty": 50.0}, {"frequency_penalty": 50.0}, {"repeat_penalty": 50.0}):
        name = next(iter(penalty))
        bench.submit(name, QUESTIONS[0], replace(GREEDY, **penalty), max_tokens=40, ignore_eos=True)
        bench.run()
        tokens = bench.engine.encode(((True, bench.texts[name]),))
        assert bench.texts[name] != plain
        assert len(set(tokens)) >= 0.9 * len(tokens), name  # nothing is said twice


def test_the_last_token_of_the_context(model: NativeModel) -> None:
    """A prompt that leaves room for one token gets it; one more is refused with both numbers; nothing is cut."""
    bench = Bench(model)
    edge = len(bench.engine.encode(((True, BEGIN + USER + ANSWER),)))
    for length in (model.context - 1, model.context):
        question = "1" * (length - edge)
        bench.submit(str(length), question, max_tokens=50, ignore_eos=True)
        bench.run()
    fits, refused = bench.ends["4095"], bench.ends["4096"]
    assert isinstance(fits, wire.Finished) and (fits.reason, fits.prompt_tokens, fits.generated_tokens) == ("length", 4095, 1)
    assert isinstance(refused, wire.Failed) and (refused.prompt_tokens, refused.limit) == (4096, 4096)
    assert bench.ask("你好", max_tokens=5)


def test_an_answer_may_fill_the_context(model: NativeModel) -> None:
    bench = Bench(model, context=100)
    bench.ask("你好", ignore_eos=True)
    end = bench.ends["ask 0"]
    assert isinstance(end, wire.Finished) and end.reason == "length"
    assert end.prompt_tokens + end.generated_tokens == 100


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    for content in (b"", b"GGUF", b"not a model at all" * 100):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="can't load"):
            NativeModel(path, context=64, cells=64, slots=3, step=32, threads=1)
    with pytest.raises(ModelError, match="can't load"):
        NativeModel(tmp_path / "none.gguf", context=64, cells=64, slots=3, step=32, threads=1)


# --- tokens ---


@pytest.fixture(scope="module")
def reference() -> Iterator[ReferenceTokenizer]:
    data = lzma.decompress((ROOT / "services/init/demo/tokenizer.json.xz").read_bytes())
    yield ReferenceTokenizer.from_str(data.decode())


@pytest.fixture(scope="module")
def added() -> list[str]:
    data = json.loads(lzma.decompress((ROOT / "services/init/demo/tokenizer.json.xz").read_bytes()))
    return [token["content"] for token in data["added_tokens"]]


ENGLISH = ["Hello", "world's", "I'LL", "don't", "naïve", "Straße", "Ünï", "ELEPHANT", "été", "it'S"]
CODE = ["def f(x):\n\treturn x**2", "    if (a != b) {\r\n  ++i; }", "<b>&amp;</b>", "a->b::c[0]", "</s><s>", "#!/bin/sh\n\n\n"]
EMOJI = ["🐔", "🐰", "👨‍👩‍👧", "🏳️‍🌈", "👍🏽", "🇨🇳", "❤️", "1️⃣"]
DIGITS = ["", ".5", "%", "st", "½", "Ⅷ", "٣", "五"]
SPACES = [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "\u2003", "\u200b", "\x0b"]
MARKS = "，。！？：；“”《》、…—.,!?'\"-_()[]{}/\\|@#$%^&*+=~`<>"
SCRIPTS = ["हिन्दी", "العربية", "עברית", "ไทย", "한국어", "にほんご", "Ελλάδα", "Россия", "𝒳𝔸", "\x00\x01", "ﬁ", "Å", "e\u0301"]


def random_text(source: random.Random) -> str:
    """Chinese, English, code, emoji and odd white space; in the normal form that the reference tokenizer makes first."""

    def some(choices: Sized[str], most: int = 1) -> str:
        return "".join(source.choices(choices, k=source.randint(1, most)))

    kinds: list[Callable[[], str]] = [
        lambda: "".join(chr(source.randint(0x4E00, 0x9FFF)) for _ in range(source.randint(1, 8))),
        lambda: some(ENGLISH),
        lambda: some(CODE),
        lambda: some(EMOJI, 4),
        lambda: str(source.randint(0, 10**9)) + some(DIGITS),
        lambda: some(SPACES, 5),
        lambda: some(MARKS, 6),
        lambda: some(SCRIPTS),
        lambda: "".join(chr(source.randint(0x20, 0xD7FF)) for _ in range(source.randint(1, 4))),
    ]
    return unicodedata.normalize("NFC", "".join(source.choice(kinds)() for _ in range(source.randint(1, 12))))


@pytest.mark.parametrize("seed", range(10))
def test_plain_text_is_tokenized_as_by_the_reference(model: NativeModel, reference: ReferenceTokenizer, seed: int) -> None:
    source, ours = random.Random(seed), Tokenizer(model.vocabulary)
    for _ in range(200):
        text = random_text(source)
        assert ours.encode([(False, text)]) == reference.encode(text, add_special_tokens=False).ids, (seed, text)


def test_whole_conversations_are_tokenized_as_by_the_reference(model: NativeModel, reference: ReferenceTokenizer) -> None:
    """Where nobody forges anything, marked parts give the tokens of the whole text."""
    source, ours = random.Random(3), Tokenizer(model.vocabulary)
    for _ in range(200):
        question, answer, more = (random_text(source) for _ in range(3))
        parts = [
            (True, BEGIN + USER),
            (False, question),
            (True, "<｜Assistant｜>"),
            (False, answer),
            (True, "<｜end▁of▁sentence｜>" + USER),
        ]
        parts += [(False, more), (True, ANSWER)]
        # both sides of a border are normalized together by the reference
        text = "".join(text for _, text in parts)
        if unicodedata.is_normalized("NFC", text):
            assert ours.encode(parts) == reference.encode(text, add_special_tokens=False).ids


def test_every_added_token_counts_in_the_template(model: NativeModel, reference: ReferenceTokenizer, added: list[str]) -> None:
    ours = Tokenizer(model.vocabulary)
    assert len(added) == 22
    for text in added:
        assert ours.encode([(True, f"a{text}b")]) == reference.encode(f"a{text}b", add_special_tokens=False).ids


def test_no_added_token_can_be_typed(model: NativeModel, added: list[str]) -> None:
    """Alone, doubled, nested into one another, split over parts, within other text."""
    ours, ids = Tokenizer(model.vocabulary), set(model.vocabulary.added.values())
    assert set(added) <= set(model.vocabulary.added)
    source = random.Random(7)
    texts = list(model.vocabulary.added)
    forgeries = [
        variant for text in texts for variant in (text, text * 3, f" {text}\n", f"a{text}b", f"鸡{text}兔", text[:-1] + text + text[-1:])
    ]
    for outer in texts:
        inner = source.choice(texts)
        forgeries += [outer[:at] + inner + outer[at:] for at in range(len(outer))]
        forgeries += [outer + inner[at:] for at in range(len(inner))]
    for text in forgeries:
        tokens = ours.encode([(False, text)])
        assert not ids & set(tokens), text
        assert b"".join(model.piece(token) for token in tokens).decode() == text
    for text in texts:
        for at in range(1, len(text)):
            for marks in ((False, False), (True, False), (False, True)):
                tokens = ours.encode([(marks[0], text[:at]), (marks[1], text[at:])])
                assert not ids & set(tokens), (text, at, marks)


@pytest.mark.parametrize("seed", range(5))
def test_random_forgeries_spell_what_was_typed(model: NativeModel, seed: int) -> None:
    source, ours, ids = random.Random(seed), Tokenizer(model.vocabulary), set(model.vocabulary.added.values())
    scraps = [text[a:b] for text in model.vocabulary.added for a, b in ((0, None), (0, 3), (2, None), (0, -1), (1, -1))]
    for _ in range(400):
        text = "".join(source.choices([*scraps, *"<>|/｜▁ ", "think"], k=source.randint(1, 10)))
        tokens = ours.encode([(False, text)])
        assert not ids & set(tokens), (seed, text)
        assert b"".join(model.piece(token) for token in tokens).decode() == text, (seed, text)


def test_any_bytes_can_be_tokenized_and_spelled_back(model: NativeModel) -> None:
    for text in ("\0", "a\0b", "\x7f\x80\uffff", "\U0010ffff", "\ud7ff\ue000", "", " ", "\n" * 50, "x" * 5000, " " * 5000):
        assert b"".join(model.piece(token) for token in model.vocabulary.plain(text)).decode() == text


# --- what the cache and the loop do with the real library ---


def read(model: NativeModel, slot: int, tokens: list[int], start: int = 0) -> np.ndarray:
    """Compute tokens of a sequence from `start` on; the logits after the last one."""
    sequence = Sequence("", tokens, len(tokens), NoSampler(), TextStream(), slot=slot, computed=start)
    (row,) = model.decode([Chunk(sequence, len(tokens) - start)])
    logits = llama_cpp.llama_get_logits_ith(model._context, row[-1])
    return np.ctypeslib.as_array(logits, shape=(model.vocabulary.size,)).copy()


def test_shared_and_restored_cells_hold_what_was_computed(model: NativeModel) -> None:
    Bench(model)
    tokens = model.vocabulary.plain("The quick brown fox jumps over the lazy dog. " * 5)
    wanted = read(model, 0, tokens)
    model.share(0, 1, 0, len(tokens) - 1)
    saved = model.save(0)
    assert model.load(2, saved)
    model.remove(2, len(tokens) - 1, -1)
    model.remove(0, 0, -1)
    spread = float(np.abs(wanted).max())
    for slot in (1, 2):
        again = read(model, slot, tokens, len(tokens) - 1)
        assert float(np.abs(again - wanted).max()) < 0.01 * spread  # a step of one token rounds differently from a step of many
        assert again.argmax() == wanted.argmax()


def test_a_common_beginning_is_read_once_by_those_who_arrive_together(model: NativeModel) -> None:
    bench = Bench(model)
    system = "You are a careful assistant. " * 40
    for number in range(6):
        bench.submit(f"r{number}", f"{system}{number}?", max_tokens=4)
    bench.run()
    common = len(bench.engine.encode(((True, BEGIN + USER), (False, system.strip()))))
    cached = sorted(end.cached_tokens for end in bench.ends.values() if isinstance(end, wire.Finished))
    assert cached[0] == 0 and all(tokens >= common for tokens in cached[1:])
    assert bench.engine.kv.used < common + 6 * 20


def test_what_comes_back_from_the_store_is_not_read_again(model: NativeModel) -> None:
    bench = Bench(model, context=500, cells=600, store=1 << 28)
    story = "Once upon a time there was a very small model. " * 20
    bench.ask(story, max_tokens=4)
    bench.ask("And something else: " + "tell me about it. " * 80, max_tokens=4)
    assert len(bench.engine.kv.store) == 1
    bench.ask(story, max_tokens=4)
    end = bench.ends["ask 2"]
    assert isinstance(end, wire.Finished) and end.cached_tokens == end.prompt_tokens - 1


def test_guesses_change_no_answer(model: NativeModel, alone: dict[str, str]) -> None:
    """Greedy and drawn: the same seed draws the same tokens, guessed or not. All guesses are tried here, whether they pay or not."""

    class Eager(Speculation):
        def _worth(self, right: float, most: int, writers: int) -> int:
            return most

    drawn = wire.Sampling(temperature=0.6, seed=7)
    plain = Bench(model)
    wanted = {question: plain.ask(question, drawn, max_tokens=SHORT) for question in QUESTIONS}
    guessing = Bench(model, speculate=True)
    guessing.engine.speculation = Eager()
    for question in QUESTIONS:
        assert guessing.ask(question, max_tokens=SHORT) == alone[question]
        assert guessing.ask(question, drawn, max_tokens=SHORT) == wanted[question]
    ends = [end for end in guessing.ends.values() if isinstance(end, wire.Finished)]
    assert sum(end.accepted_tokens for end in ends) > 0
    assert all(end.accepted_tokens <= end.drafted_tokens for end in ends)


def test_the_next_turn_that_was_read_in_a_quiet_moment_is_answered_as_ever(model: NativeModel, alone: dict[str, str]) -> None:
    bench = Bench(model)
    bench.engine.prepare(bench.engine.encode(((True, BEGIN + USER), (False, QUESTIONS[0]))))
    bench.run()
    assert bench.ask(QUESTIONS[0], max_tokens=SHORT) == alone[QUESTIONS[0]]
    end = bench.ends["ask 0"]
    assert isinstance(end, wire.Finished) and end.cached_tokens > 10


def test_a_thought_can_be_bounded(model: NativeModel) -> None:
    bench = Bench(model)
    thought, tag, answer = bench.ask(QUESTIONS[0], thought_limit=20).partition("</think>")
    assert tag and answer.strip() and thought
    end = bench.ends["ask 0"]
    assert isinstance(end, wire.Finished) and (end.thought_ended, end.thought_tokens) == ("budget", 21)


def test_adapters_change_answers_for_those_who_choose_them(demo_volume: Path, tmp_path: Path, alone: dict[str, str]) -> None:
    path = demo_volume / "current/model.gguf"
    write_adapter(path, tmp_path / "poet.gguf", scale=4.0)
    write_adapter(path, tmp_path / "mute.gguf", scale=0.0)
    adapters = {name: tmp_path / f"{name}.gguf" for name in ("poet", "mute")}
    model = NativeModel(path, context=8192, cells=4096, slots=20, step=256, threads=1, adapters=adapters)
    bench = Bench(model)
    for adapter in ("", "mute", "poet"):
        bench.submit(adapter or "base", QUESTIONS[0], adapter=adapter, max_tokens=SHORT)
    bench.run()
    assert bench.texts["base"] == bench.texts["mute"] == alone[QUESTIONS[0]]
    assert bench.texts["poet"] != alone[QUESTIONS[0]]
    assert all(isinstance(end, wire.Finished) and end.cached_tokens == 0 for end in bench.ends.values())
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"broken\.gguf: not a LoRA adapter of this model"):
        NativeModel(path, context=64, cells=64, slots=3, step=32, threads=1, adapters={"broken": tmp_path / "broken.gguf"})


def write_adapter(model: Path, target: Path, scale: float) -> None:
    """A LoRA adapter of rank 2 with random weights for every query projection."""
    reader = gguf.GGUFReader(model)
    random_numbers = np.random.default_rng(3)
    writer = gguf.GGUFWriter(target, "qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    for tensor in reader.tensors:
        if tensor.name.endswith("attn_q.weight"):
            columns, rows = (int(size) for size in tensor.shape)
            writer.add_tensor(f"{tensor.name}.lora_a", random_numbers.normal(size=(2, columns)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.lora_b", (scale * random_numbers.normal(size=(rows, 2))).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
