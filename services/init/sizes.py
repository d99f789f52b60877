"""How large a GGUF will be and how much memory its making takes, before anything is made: what the preflight asks.

Owns estimates, from a model's config.json or from its number of parameters alone. They are meant to be a little high. Figures are bits
a weight that llama.cpp's quantizer (its dry run) gives for the shapes of eleven published models from 0.1 to 33 billion parameters.
"""

from __future__ import annotations

from math import prod

from services.init.architectures import Model

# Bits a weight: of most matrices, and of the output matrix (the embedding, where that is tied), which keeps more.
BITS = {
    "q4_0": (4.5, 6.5625),
    "q4_k_m": (4.82, 6.5625),
    "q5_0": (5.5, 6.5625),
    "q5_k_m": (5.67, 6.5625),
    "q6_k": (6.5625, 6.5625),
    "q8_0": (8.5, 8.5),
    "f16": (16.0, 16.0),
    "bf16": (16.0, 16.0),
    "f32": (32.0, 32.0),
}
# The same where rows are no multiple of the 256 that K-quants need: the quantizer then takes the next larger type.
ODD_BITS = BITS | {"q4_0": (4.5, 8.5), "q4_k_m": (5.6, 8.5), "q5_0": (5.5, 8.5), "q5_k_m": (6.1, 8.5), "q6_k": (8.5, 8.5)}
K_BLOCK = 256
ROW = 64  # bytes of metadata a row of the vocabulary: token, type, merges (Llama 3: 58, Qwen2: 39)
MARGIN = 1.01
ODD_HEAD = 0.3  # the largest share that an output matrix has in a published model (Qwen2.5-0.5B: 0.28)

CONVERT_MEMORY = 300_000_000  # measured: 192 MB for a Qwen2 vocabulary, 217 MB for Llama 3's; weights stream through 4 MB
QUANTIZE_MEMORY = 450_000_000  # measured: 118 MB beside what convert left; mapped pages of the source can be reclaimed
CHECK_MEMORY = 200_000_000  # beside the file itself, which the check maps; measured: 50 to 100 MB


def parameters(model: Model) -> int:
    """Weights of a model, without optional tensors."""
    targets, optional = model.targets()
    return sum(prod(target.shape) for name, target in targets.items() if name not in optional)


def size_estimate(model: Model | int, quant: str) -> int:
    """Bytes of the GGUF in this quant (or in f16, bf16, f32 as an intermediate), from a model or only its number of parameters.

    From a model 1 to 4 % above the truth (the demo model, half of which is its output matrix: 8 %); from a bare number up to 32 %,
    since small models keep more bits a weight.
    """
    if isinstance(model, int):
        rest, head = ODD_BITS[quant] if model < 1_000_000_000 else BITS[quant]
        share = ODD_HEAD if model < 3_000_000_000 else ODD_HEAD / 3
        return int(model * (rest * (1 - share) + head * share) / 8 * MARGIN) + 150_000 * ROW
    rest, head = BITS[quant] if model.hidden % K_BLOCK == 0 else ODD_BITS[quant]
    output = model.vocab * model.hidden
    return int((output * head + (parameters(model) - output) * rest) / 8 * MARGIN) + model.vocab * ROW


def memory_estimate(size: int) -> int:
    """Bytes of memory that the largest step takes, for a final GGUF of `size` bytes: the check holds it whole, for a moment."""
    return max(CONVERT_MEMORY, QUANTIZE_MEMORY, size + CHECK_MEMORY)
