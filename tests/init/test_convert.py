"""The converter writes the very file that llama.cpp's own wrote for the same checkpoint (goldens by scripts/compare-converter)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from services.init import architectures
from services.init.checkpoint import Checkpoint
from services.init.convert import Dtype, cast_to, convert, plan
from services.init.errors import UnsupportedModel
from tests import checkpoints, vocabularies
from tests.checkpoints import Recipe
from tests.digest import differences, digest

GOLDENS = Path(__file__).parent / "goldens"
SYNTHETIC = Recipe("tiny", checkpoints.QWEN2 | {"vocab_size": 258}, vocabularies.synthetic)
SMOLLM = Recipe("smollm", checkpoints.LLAMA | {"hidden_size": 32, "intermediate_size": 32}, vocabularies.smollm2)


def silent(done: int, total: int, detail: str) -> None:
    pass


@pytest.mark.parametrize("recipe", checkpoints.RECIPES, ids=lambda recipe: recipe.name)
def test_the_result_is_the_references(tmp_path: Path, recipe: Recipe) -> None:
    folder = checkpoints.write(recipe, tmp_path)
    for kind in recipe.outputs:
        out = tmp_path / "part"
        convert(folder, out, kind, silent)  # type: ignore[arg-type]
        golden = json.loads((GOLDENS / f"{recipe.name}.{kind}.json").read_text(encoding="utf-8"))
        found = digest(out)
        assert differences(found["metadata"], golden["metadata"]) == []
        assert differences(found["tensors"], golden["tensors"]) == []
        assert found["file"] == golden["file"]


def test_every_golden_has_its_recipe() -> None:
    wanted = {f"{recipe.name}.{kind}.json" for recipe in checkpoints.RECIPES for kind in recipe.outputs}
    assert {path.name for path in GOLDENS.iterdir()} == wanted


def test_progress_counts_the_tensors(tmp_path: Path) -> None:
    folder = checkpoints.write(SMOLLM, tmp_path)
    steps: list[tuple[int, int, str]] = []
    convert(folder, tmp_path / "part", "auto", lambda *step: steps.append(step))
    total = len(checkpoints.tensors(SMOLLM.config))
    assert [(done, whole) for done, whole, _ in steps] == [(done, total) for done in range(total + 1)]
    assert steps[0][2] == "token_embd.weight"


def test_the_name_may_be_given(tmp_path: Path) -> None:
    folder = checkpoints.write(SMOLLM, tmp_path)
    convert(folder, tmp_path / "part", "auto", silent, name="HuggingFaceTB/Tiny-Model-Instruct")
    found = digest(tmp_path / "part")["metadata"]
    names = {key.removeprefix("general."): found.get(key) for key in ("general.name", "general.basename", "general.finetune")}
    assert names == {"name": "Tiny Model Instruct", "basename": "Tiny-Model", "finetune": "Instruct"}


def test_a_broken_model_card_and_odd_sampling_defaults_are_passed_over(tmp_path: Path) -> None:
    files = {"README.md": "---\na: [\n---\n"}
    recipe = Recipe("odd", SMOLLM.config, SMOLLM.tokenizer, generation={"temperature": "hot", "top_p": None, "top_k": 7}, files=files)
    convert(checkpoints.write(recipe, tmp_path), tmp_path / "part", "auto", silent)
    found = digest(tmp_path / "part")["metadata"]
    assert found["general.sampling.top_k"] == 7
    assert not [key for key in found if key in ("general.sampling.temp", "general.sampling.top_p", "general.license")]


@pytest.mark.parametrize("dtype", ["I32", "F64", "F8_E4M3", "U8"])
def test_other_number_types_are_named(tmp_path: Path, dtype: str) -> None:
    folder = checkpoints.write(SYNTHETIC, tmp_path)
    widths = {"I32": 4, "F64": 8, "F8_E4M3": 1, "U8": 1}
    weights = [(name, dtype, shape, bytes(widths[dtype] * int(np.prod(shape)))) for name, shape in checkpoints.tensors(SYNTHETIC.config)]
    checkpoints.write_weights(folder, weights)
    with pytest.raises(UnsupportedModel, match=rf"tensor \S+ has the type {dtype}.*supported are BF16, F16 and F32"):
        convert(folder, tmp_path / "part", "auto", silent)
    assert not (tmp_path / "part").exists()


def test_nothing_is_written_when_the_tokenizer_is_unknown(tmp_path: Path) -> None:
    folder = checkpoints.write(SYNTHETIC, tmp_path)
    with pytest.raises(UnsupportedModel, match="pre-tokenizer of this model is unknown"):
        convert(folder, tmp_path / "part", "auto", silent)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize(("dtype", "kind"), [("BF16", "BF16"), ("F16", "F16"), ("F32", "F16")])
def test_auto_is_the_first_matrixs_type(tmp_path: Path, dtype: str, kind: str) -> None:
    folder = checkpoints.write(Recipe("tiny", SYNTHETIC.config, SYNTHETIC.tokenizer, dtype=dtype, vector_dtype="F16"), tmp_path)
    checkpoint = Checkpoint(folder)
    outputs, file_type = plan(checkpoint, architectures.model(checkpoint.architecture, checkpoint.config), "auto")
    assert file_type.name == f"MOSTLY_{kind}"
    types = {output.target.name: output.type.name for output in outputs}
    assert types["blk.0.ffn_up.weight"] == kind
    assert types["blk.0.attn_norm.weight"] == types["blk.0.attn_q.bias"] == types["output_norm.weight"] == "F32"


@pytest.mark.parametrize("wanted", ["f16", "bf16", "f32"])
def test_memory_does_not_grow_with_a_tensor(tmp_path: Path, wanted: Dtype) -> None:
    """A tensor is never read in one piece: the largest piece is the buffer, whatever the tensor's size."""
    folder = checkpoints.write(SYNTHETIC, tmp_path)
    checkpoint = Checkpoint(folder)
    outputs, _ = plan(checkpoint, architectures.model(checkpoint.architecture, checkpoint.config), wanted)
    from services.init.convert import _pieces

    for output in outputs:
        pieces = [bytes(piece) for piece in _pieces(output, bytearray(512))]
        assert max(map(len, pieces)) <= 1024
        assert sum(map(len, pieces)) == output.size


def test_numbers_are_rounded_to_nearest_even() -> None:
    values = np.array([1.0, 1 + 2**-9, 1 + 3 * 2**-9, 65519.0, 65520.0, -0.0, 1e-40, np.inf], np.float32)
    halves = cast_to(values, "F32", GGMLQuantizationType.F16)
    assert halves.tolist() == [1.0, 1 + 2**-9, 1 + 3 * 2**-9, 65504.0, np.inf, -0.0, 0.0, np.inf]
    brains = cast_to(cast_to(values, "F32", GGMLQuantizationType.BF16), "BF16", GGMLQuantizationType.F32)
    assert brains[:3].tolist() == [1.0, 1.0, 1 + 2**-7]
    quiet = cast_to(np.array([0x7F81, 0xFF81], np.uint16), "BF16", GGMLQuantizationType.BF16)
    assert quiet.tolist() == [0x7FC1, 0xFFC1]
