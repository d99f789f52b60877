#!/usr/bin/env python3
"""Train the demo model: a small Qwen2 that thinks and answers in DeepSeek-R1's own chat format.

    train.py CHECKPOINT_DIR OUT.npz --minutes 55

Needs torch and transformers, which nothing else here does. The shipped weights took about 90 minutes on 2 cores, in two runs: 26
minutes on an earlier form of the thoughts, then 44 from there (--resume) with the digit-by-digit thoughts that tasks.py gives now.

CHECKPOINT_DIR gives the tokenizer (services/init/demo/expand.py writes one). The vocabulary has 151936 rows, but
the little world in tasks.py uses some hundreds of tokens, so only those rows are trained; all the
others share one embedding row and one output row, whose logit counts as many times as there are
unused tokens (+ log n). That is the exact softmax over the whole vocabulary at a fraction of the cost.
OUT.npz holds the trained tensors in float16 with the used token ids: expand.py makes the full
Hugging Face checkpoint of it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import tasks
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

BOS, EOS, USER, ASSISTANT, THINK, END_THINK = 151646, 151643, 151644, 151645, 151648, 151649
VOCAB = 151936
CONFIG = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}


class Encoder:
    """Conversations as tokens, as the chat template would write them."""

    def __init__(self, path: Path) -> None:
        self.tok = Tokenizer.from_file(str(path / "tokenizer.json"))

    def text(self, s: str) -> list[int]:
        return list(self.tok.encode(s, add_special_tokens=False).ids)

    def conversation(self, system: str, turns: list[tasks.Turn]) -> tuple[list[int], list[int]]:
        """Token ids and a 0/1 mask of those that carry loss. Earlier turns stand without their thoughts."""
        ids = [BOS] + (self.text(system) if system else [])
        mask = [0] * len(ids)
        for i, (q, thought, answer) in enumerate(turns):
            ids += [USER, *self.text(q), ASSISTANT]
            mask += [0] * (len(ids) - len(mask))
            if i < len(turns) - 1:
                ids += [*self.text(answer), EOS]
                mask += [0] * (len(ids) - len(mask))
            else:
                ids += [THINK, *self.text("\n")]
                mask += [0] * (len(ids) - len(mask))
                ids += [*self.text(thought + "\n"), END_THINK, *self.text("\n\n" + answer), EOS]
                mask += [1] * (len(ids) - len(mask))
        return ids, mask


def main() -> None:
    ap = argparse.ArgumentParser(description="Train the demo model.")
    ap.add_argument("checkpoint", type=Path)
    ap.add_argument("out", type=Path)
    ap.add_argument("--minutes", type=float, default=50)
    ap.add_argument("--batch-tokens", type=int, default=6000)
    ap.add_argument("--resume", type=Path, help="weights of an earlier run to start from")
    ap.add_argument("--log", type=int, default=200)
    ap.add_argument("--bf16", action="store_true")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(2)
    enc = Encoder(a.checkpoint)
    used: set[int] = {BOS, EOS, USER, ASSISTANT, THINK, END_THINK}
    survey = random.Random(12345)
    for _ in range(30000):
        used.update(enc.conversation(*tasks.sample(survey))[0])
    ids = sorted(used)
    n = len(ids)
    lookup = np.full(VOCAB, n, dtype=np.int64)
    lookup[ids] = np.arange(n)  # index n: the shared row
    print("used tokens", n, flush=True)
    cfg = Qwen2Config(
        vocab_size=n + 1,
        tie_word_embeddings=False,
        max_position_embeddings=4096,
        rope_theta=10000.0,
        rms_norm_eps=1e-6,
        attn_implementation="sdpa",
        **CONFIG,
    )
    model = Qwen2ForCausalLM(cfg)
    if a.resume:
        old = np.load(a.resume)
        place = {int(t): i for i, t in enumerate(old["token_ids"])}
        rows = [place.get(t, len(place)) for t in ids] + [len(place)]
        state = {k: torch.from_numpy(old[k].astype(np.float32)) for k in old.files if k not in ("token_ids", "config")}
        for k in ("model.embed_tokens.weight", "lm_head.weight"):
            state[k] = state[k][rows] + 0.002 * torch.randn(n + 1, state[k].shape[1])
        model.load_state_dict(state)
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}]
    opt = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.97))
    shared = torch.zeros(n + 1)
    shared[n] = math.log(VOCAB - n)
    rng = random.Random(a.seed)
    end = time.time() + a.minutes * 60
    start = time.time()
    step = 0
    seen = 0
    avg = None
    while time.time() < end:
        pool = sorted((enc.conversation(*tasks.sample(rng)) for _ in range(256)), key=lambda p: len(p[0]))
        batches, cur = [], []
        for item in pool:
            if cur and (len(cur) + 1) * len(item[0]) > a.batch_tokens:
                batches.append(cur)
                cur = []
            cur.append(item)
        batches.append(cur)
        rng.shuffle(batches)
        for batch in batches:
            frac = (time.time() - start) / (a.minutes * 60)
            lr = a.lr * min(1, (step + 1) / 200) * (0.5 * (1 + math.cos(math.pi * min(1, frac))) * 0.98 + 0.02)
            for g in opt.param_groups:
                g["lr"] = lr
            width = max(len(i) for i, _ in batch)
            x = np.full((len(batch), width), n, dtype=np.int64)
            m = np.zeros((len(batch), width), dtype=np.float32)
            att = np.zeros((len(batch), width), dtype=np.int64)
            for k, (i, w) in enumerate(batch):
                x[k, : len(i)] = lookup[i]
                m[k, : len(i)] = w
                att[k, : len(i)] = 1
            x, m = torch.from_numpy(x), torch.from_numpy(m)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bf16):
                hidden = model.model(input_ids=x, attention_mask=None).last_hidden_state  # right padding: causal mask suffices
            sel = m[:, 1:].bool()
            logits = F.linear(hidden[:, :-1][sel].float(), model.lm_head.weight) + shared
            loss = F.cross_entropy(logits, x[:, 1:][sel])
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            step += 1
            seen += int(att.sum())
            avg = loss.item() if avg is None else 0.98 * avg + 0.02 * loss.item()
            if step % a.log == 0:
                print(f"step {step} loss {avg:.4f} tok/s {seen / (time.time() - start):.0f} {frac:.0%}", flush=True)
            if step % 2000 == 0:
                save(model, ids, a.out)
            if time.time() > end:
                break
    save(model, ids, a.out)


def save(model: Qwen2ForCausalLM, ids: list[int], out: Path) -> None:
    """Write the weights as expand.py reads them."""
    tensors = {k: v.detach().to(torch.float16).numpy() for k, v in model.state_dict().items()}
    np.savez(out, token_ids=np.array(ids, dtype=np.int32), config=np.frombuffer(json.dumps(CONFIG).encode(), dtype=np.uint8), **tensors)


if __name__ == "__main__":
    main()
