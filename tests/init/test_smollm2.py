"""Real weights made by others come through convert, quantize and check, and still write good English."""

from __future__ import annotations

from pathlib import Path

import llama_cpp

from services.init.check import check
from services.init.convert import convert
from services.init.quantize import quantize
from tests import smollm2, vocabularies

QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


def answer(path: Path) -> str:
    model = llama_cpp.Llama(str(path), n_ctx=256, n_threads=2, verbose=False)
    found = model.create_completion(QUESTION, max_tokens=24, temperature=0, stop=["<|im_end|>"])
    text: str = found["choices"][0]["text"]
    return text.strip()


def test_smollm2_answers_as_the_original_does(tmp_path: Path) -> None:
    folder = smollm2.rebuild(tmp_path / "SmolLM2-135M-Instruct")
    convert(folder, tmp_path / "bf16.gguf", "auto", lambda *_: None)
    quantize(tmp_path / "bf16.gguf", tmp_path / "q8_0.gguf", "q8_0", 2, lambda *_: None)
    facts = check(tmp_path / "q8_0.gguf", 2)
    assert (facts.architecture, facts.parameters, facts.context_length, facts.quant) == ("llama", 134_515_008, 8192, "q8_0")
    original = answer(vocabularies.smollm2_gguf())
    assert answer(tmp_path / "q8_0.gguf") == original == "The capital of France is Paris."
