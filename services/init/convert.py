"""A Hugging Face checkpoint becomes a GGUF: the same tensors and metadata, bit for bit, that llama.cpp's converter writes, without torch.

Owns the order, types and bytes of the file. What the tensors are called is in architectures.py, the tokenizer in vocabulary.py.
Weights stream through one small buffer, so memory does not depend on the model's size. The same input gives the same bytes.

Differences to llama.cpp's converter, all meant: anything unknown is an error instead of a guess; named chat templates are
listed in the checkpoint's order instead of a random one; chat_template.jinja counts also without a tokenizer_config.json; a model
card that is not valid YAML, and sampling defaults that are no numbers, are ignored instead of fatal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType as FileType

from services.init import architectures, vocabulary
from services.init.architectures import WAY_OUT, Model, Target
from services.init.checkpoint import Checkpoint, Tensor
from services.init.errors import UnsupportedModel

Dtype = Literal["auto", "f16", "bf16", "f32"]
OnProgress = Callable[[int, int, str], None]

BUFFER = 4 << 20  # bytes read at once
FILE_TYPES = {"f16": FileType.MOSTLY_F16, "bf16": FileType.MOSTLY_BF16, "f32": FileType.ALL_F32}
TYPES = {FileType.MOSTLY_F16: Type.F16, FileType.MOSTLY_BF16: Type.BF16, FileType.ALL_F32: Type.F32}
ITEM_SIZES = {Type.F32: 4, Type.F16: 2, Type.BF16: 2}
SAMPLING = {  # general.sampling.* by the key in generation_config.json
    "sampling_sequence": ("sequence",),
    "sampling_top_k": ("top_k",),
    "sampling_top_p": ("top_p",),
    "sampling_min_p": ("min_p",),
    "sampling_xtc_probability": ("xtc_probability",),
    "sampling_xtc_threshold": ("xtc_threshold",),
    "sampling_temp": ("temperature",),
    "sampling_penalty_last_n": ("penalty_last_n",),
    "sampling_penalty_repeat": ("penalty_repeat", "repetition_penalty"),
    "sampling_mirostat": ("mirostat",),
    "sampling_mirostat_tau": ("mirostat_tau",),
    "sampling_mirostat_eta": ("mirostat_eta",),
}

for _name in ("gguf", "metadata"):  # the gguf library's loggers tell of every key and file
    logging.getLogger(_name).setLevel(logging.ERROR)


@dataclass(frozen=True)
class Output:
    """One tensor of the result: where its bytes come from and what becomes of them."""

    target: Target
    source: Tensor | npt.NDArray[np.float32]
    type: Type

    @property
    def size(self) -> int:
        """Bytes in the GGUF, without padding."""
        return int(np.prod(self.target.shape, dtype=np.int64)) * ITEM_SIZES[self.type]


def convert(folder: Path, out: Path, dtype: Dtype, on_progress: OnProgress, *, name: str | None = None) -> None:
    """Write the checkpoint in `folder` as a GGUF to `out` (which should be a name that nobody reads; it is not fsynced).

    `dtype` is the type of the matrices; "auto" takes the first matrix's own (F16 when that is F32). Vectors and norms are F32.
    `on_progress(done, total, detail)` is told of every tensor written. `name` is what the model is called, `owner/repo` or a
    plain name, when the folder's own name says nothing; general.name, basename and size label come from it.

    Raises:
        SourceError, CorruptFile: the folder is no whole checkpoint.
        UnsupportedModel: it can't be converted; the message tells what can, and the way out.
    """
    checkpoint = Checkpoint(folder)
    model = architectures.model(checkpoint.architecture, checkpoint.config)
    outputs, file_type = plan(checkpoint, model, dtype)
    writer = gguf.GGUFWriter(path=None, arch=model.family.gguf)
    for output in outputs:
        numpy_type = np.dtype(np.float32 if output.type == Type.F32 else np.float16)
        writer.add_tensor_info(output.target.name, output.target.shape, numpy_type, output.size, raw_dtype=output.type)
    _write_general(writer, checkpoint, name)
    _write_model(writer, model, checkpoint.config, file_type)
    vocabulary.vocabulary(checkpoint, model.vocab, model.family.tokenizer, llama=model.family.permutes).write(writer)
    try:
        writer.write_header_to_file(out)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        file = writer.fout[0]
        writer.kv_data.clear()
        _pad(file, file.tell())
        buffer = bytearray(BUFFER)
        for done, output in enumerate(outputs):
            on_progress(done, len(outputs), output.target.name)
            written = 0
            for piece in _pieces(output, buffer):
                file.write(piece)
                written += len(piece)
            assert written == output.size, f"{output.target.name}: {written} bytes instead of {output.size}"
            _pad(file, written)
        on_progress(len(outputs), len(outputs), "")
    finally:
        writer.close()


def plan(checkpoint: Checkpoint, model: Model, dtype: Dtype) -> tuple[list[Output], FileType]:
    """The tensors of the result in the order of the file, and the file's type.

    Raises:
        UnsupportedModel: missing, unknown or misshapen tensors, or a type that is none of BF16, F16 and F32.
    """
    targets = model.match({name: tensor.shape for name, tensor in checkpoint.tensors.items()})
    for name in targets:
        tensor = checkpoint.tensors[name]
        if tensor.dtype not in ("BF16", "F16", "F32"):
            what = "quantized weights" if tensor.dtype.startswith(("F8", "I8", "U8")) else "an unusual type"
            raise UnsupportedModel(f"tensor {name} has the type {tensor.dtype}, {what}; supported are BF16, F16 and F32: {WAY_OUT}")
    file_type = FILE_TYPES[dtype] if dtype != "auto" else _guess(checkpoint, targets)
    outputs = []
    if (factors := model.rope_factors()) is not None:
        outputs.append(Output(Target("rope_freqs.weight", factors.shape), factors, Type.F32))
    for name, target in targets.items():
        plain = len(target.shape) == 1 or target.name.endswith("_norm.weight")
        outputs.append(Output(target, checkpoint.tensors[name], Type.F32 if plain else TYPES[file_type]))
    return outputs, file_type


def _guess(checkpoint: Checkpoint, targets: dict[str, Target]) -> FileType:
    for name in targets:
        tensor = checkpoint.tensors[name]
        if len(tensor.shape) >= 2 and tensor.dtype in ("BF16", "F16"):
            return FileType.MOSTLY_BF16 if tensor.dtype == "BF16" else FileType.MOSTLY_F16
    return FileType.MOSTLY_F16


def _write_general(writer: gguf.GGUFWriter, checkpoint: Checkpoint, name: str | None) -> None:
    """general.*: what the model is called and how its authors sample, by the gguf library's rules for names and model cards."""
    total, shared, experts, count = writer.get_total_parameter_count()
    try:
        card = gguf.Metadata.load_model_card(checkpoint.folder)
    except (ValueError, OSError):  # yaml.YAMLError is none of these
        card = {}
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        card = {}
    path = Path(name) if name else checkpoint.folder
    metadata = gguf.Metadata.apply_metadata_heuristic(gguf.Metadata(), card, checkpoint.config, path, total)
    for attribute, keys in SAMPLING.items():
        found = next((checkpoint.generation_config[key] for key in keys if key in checkpoint.generation_config), None)
        right = isinstance(found, str) if attribute == "sampling_sequence" else isinstance(found, (int, float))
        setattr(metadata, attribute, found if right else None)
    metadata.name = metadata.name or path.name
    metadata.size_label = metadata.size_label or gguf.size_label(total, shared, experts, count)
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)


def _write_model(writer: gguf.GGUFWriter, model: Model, config: dict[str, Any], file_type: FileType) -> None:
    """The architecture's own keys, in the order of llama.cpp's converter."""
    writer.add_block_count(model.blocks)
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.inner)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.key_heads)
    rope = model.rope
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        attention = rope.get("attention_factor", rope.get("attn_factor"))
        for value, add in (
            (rope.get("extrapolation_factor"), writer.add_rope_scaling_yarn_ext_factor),
            (attention, writer.add_rope_scaling_yarn_attn_factor),
            (rope.get("beta_fast"), writer.add_rope_scaling_yarn_beta_fast),
            (rope.get("beta_slow"), writer.add_rope_scaling_yarn_beta_slow),
        ):
            if value is not None:
                add(value)
    writer.add_rope_freq_base(model.rope_base)
    writer.add_layer_norm_rms_eps(model.epsilon)
    if model.head_dim is not None:
        writer.add_key_length(model.head_dim)
        writer.add_value_length(model.head_dim)
    writer.add_file_type(file_type)
    if model.family.permutes:
        writer.add_vocab_size(model.vocab)
        writer.add_rope_dimension_count(model.head_size)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _pieces(output: Output, buffer: bytearray) -> Iterator[memoryview | bytes]:
    """The bytes of one tensor as they stand in the GGUF, piece by piece; a piece is valid until the next."""
    source = output.source
    if not isinstance(source, Tensor):
        yield source.tobytes()
        return
    unit = source.elements // output.target.heads if output.target.heads else 1  # elements that must be permuted together
    size = source.size // source.elements
    if unit * size > len(buffer):
        buffer = bytearray(unit * size)
    for chunk in source.chunks(buffer, unit * size):
        values = np.frombuffer(chunk, "<u2" if size == 2 else "<f4")
        if output.target.heads:
            values = _pair(values, output.target)
        yield np.ascontiguousarray(cast_to(values, source.dtype, output.type)).reshape(-1).view(np.uint8).data


def _pair(values: npt.NDArray[Any], target: Target) -> npt.NDArray[Any]:
    """Put the two rows of each rotary pair side by side: of a head's n rows, i and i + n/2. `values` holds whole heads."""
    rows = target.shape[0] // target.heads
    columns = target.shape[1] if len(target.shape) > 1 else 1
    return values.reshape(-1, 2, rows // 2, columns).swapaxes(1, 2)


def cast_to(values: npt.NDArray[Any], source: str, wanted: Type) -> npt.NDArray[Any]:
    """Numbers of a safetensors type (BF16 and F16 as uint16, F32 as float32) as those of a GGUF type (BF16 as uint16).

    Rounds to nearest even; what is too large for F16 becomes infinite; a BF16 NaN is made quiet. As in llama.cpp's converter.
    """
    if source == "BF16":
        if wanted == Type.BF16:
            nan = (values & 0x7FFF) > 0x7F80
            return values | (nan.astype(np.uint16) << 6) if nan.any() else values
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif source == "F16":
        values = values.view(np.float16)
    if wanted == Type.F32:
        return values.astype(np.float32, copy=False)
    if wanted == Type.F16:
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float16, copy=False)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(nan, ((bits >> 16) | 64).astype(np.uint16), rounded) if nan.any() else rounded


def _pad(file: BinaryIO, size: int) -> None:
    file.write(bytes(-size % gguf.GGUF_DEFAULT_ALIGNMENT))
