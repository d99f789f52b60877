"""Choosing the next token from a row of logits: bias, penalties, the chain, a grammar, and what it all looked like in logprobs.

Owns the native sampler chains. Bias and penalties change the few logits that they concern in the row itself, which nobody else reads.
A grammar is asked about the token that was drawn anyway; only where it refuses are all tokens checked and one drawn from what
is left: that is rare, and costs a hundred times as much. Knows nothing of requests or sequences.
"""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np

from services.engine.grammar import Grammar, GrammarError
from services.engine.sequence import Logprobs, SamplingError
from services.shared.wire import Sampling

COLD = 1e-5  # temperatures below are greedy: logits divided by less don't fit into a float
BAN = -100.0  # a bias of this or less forbids the token, at any temperature
BLOCK = 64  # tokens


class GreedySampler:
    """The most likely token: numpy's argmax over the logits row, ten times faster than a greedy chain.

    `size`: tokens in the vocabulary. `constrained`: the grammar counts; switched off while the model thinks. `exempt`: the token that
    opens a thought, as long as one may come. `logprobs`: of the token sampled last, None when they were not asked for.
    """

    def __init__(self, context: llama_cpp.llama_context_p, size: int, sampling: Sampling, grammar: Grammar | None = None) -> None:
        self.constrained = True
        self.exempt: int | None = None
        self.logprobs: Logprobs | None = None
        self._context, self._size, self._grammar = context, size, grammar
        self._top = sampling.logprobs
        self._bias = _Bias(sampling) if sampling.logit_bias else None
        penalties = (sampling.repeat_penalty, sampling.presence_penalty, sampling.frequency_penalty)
        self._penalties = _Penalties(size, *penalties) if penalties != (1.0, 0.0, 0.0) else None

    def sample(self, row: int) -> int:
        """The token that follows. Changes the row: a row can be sampled once.

        Raises:
            SamplingError: the grammar can't go on.
        """
        address = ctypes.addressof(llama_cpp.llama_get_logits_ith(self._context, row).contents)
        logits = np.ctypeslib.as_array((ctypes.c_float * self._size).from_address(address))
        raw = logits.copy() if self._top is not None else logits
        if self._bias:
            self._bias.apply(logits)
        if self._penalties:
            self._penalties.apply(logits)
        token = self._choose(row, logits)
        if self._grammar and self.constrained and token != self.exempt:
            token = self._obey(self._grammar, row, logits, token)
        if self._penalties:
            self._penalties.count(token)
        if self._top is not None:
            self.logprobs = logprobs(raw, token, self._top)
        return token

    def accept(self, token: int) -> None:
        """Take note of a token that was not sampled but put there.

        Raises:
            SamplingError: the grammar counts now and does not allow it.
        """
        self.logprobs = None
        if self._grammar and self.constrained:
            try:
                allowed = self._grammar.take(token)
            except GrammarError as error:
                raise SamplingError(str(error)) from None
            if not allowed:
                raise SamplingError("the grammar does not allow the text that was put into the answer")
        if self._penalties:
            self._penalties.count(token)

    def close(self) -> None:
        """Nothing native is held."""

    def _choose(self, row: int, logits: np.ndarray) -> int:
        """A token by the row's logits as they are now."""
        return int(logits.argmax())

    def _obey(self, grammar: Grammar, row: int, logits: np.ndarray, token: int) -> int:
        """This token if the grammar allows it, else another one that it does."""
        try:
            if grammar.take(token):
                return token
            allowed = grammar.allowed()
            logits[~allowed] = -np.inf
            token = self._choose(row, logits)
            if not allowed[token] or logits[token] == -np.inf:  # a draw by a number of exactly 0 takes what comes first
                token = int(logits.argmax())
            if logits[token] > -np.inf and grammar.take(token):
                return token
        except GrammarError as error:
            raise SamplingError(str(error)) from None
        raise SamplingError("logit_bias forbids every token that the grammar allows here")


class ChainSampler(GreedySampler):
    """top-k → temperature → top-p → min-p → draw, in the order in which the models' authors evaluate.

    Top-k comes before everything that sorts: top-p over all 151,936 tokens costs up to 14 ms,
    after a top-k of 40 it costs 0.2 ms.
    """

    def __init__(self, context: llama_cpp.llama_context_p, size: int, sampling: Sampling, grammar: Grammar | None = None) -> None:
        super().__init__(context, size, sampling, grammar)
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        s = sampling
        if s.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(s.top_k))
        self._add(llama_cpp.llama_sampler_init_temp(s.temperature))
        if s.top_p < 1:
            self._add(llama_cpp.llama_sampler_init_top_p(s.top_p, 1))
        if s.min_p > 0:
            self._add(llama_cpp.llama_sampler_init_min_p(s.min_p, 1))
        seed = llama_cpp.LLAMA_DEFAULT_SEED if s.seed is None else s.seed % llama_cpp.LLAMA_DEFAULT_SEED
        self._add(llama_cpp.llama_sampler_init_dist(seed))

    def _add(self, sampler: llama_cpp.llama_sampler_p) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def _choose(self, row: int, logits: np.ndarray) -> int:
        # it reads the same row; none of the chain's samplers minds that a token which it chose is refused afterwards
        return int(llama_cpp.llama_sampler_sample(self._chain, self._context, row))

    def close(self) -> None:
        """Free the native chain."""
        if self._chain:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


class _Bias:
    """Some tokens' logits moved by a constant."""

    def __init__(self, sampling: Sampling) -> None:
        tokens, values = zip(*sampling.logit_bias, strict=True)
        self._tokens = np.array(tokens, np.intp)
        self._values = np.array([-np.inf if value <= BAN else value for value in values], np.float32)

    def apply(self, logits: np.ndarray) -> None:
        logits[self._tokens] += self._values


class _Penalties:
    """Tokens of the answer so far made less likely; the prompt does not count. As llama.cpp does it, but only where it matters:
    its own looks every token of the vocabulary up."""

    def __init__(self, size: int, repeat: float, presence: float, frequency: float) -> None:
        self._repeat, self._presence, self._frequency = (np.float32(value) for value in (repeat, presence, frequency))
        self._counts = np.zeros(size, np.int32)
        self._seen = np.empty(size, np.intp)  # tokens in the order in which they came up first
        self._length = 0

    def count(self, token: int) -> None:
        if self._counts[token] == 0:
            self._seen[self._length] = token
            self._length += 1
        self._counts[token] += 1

    def apply(self, logits: np.ndarray) -> None:
        seen = self._seen[: self._length]
        values = logits[seen]
        values = np.where(values <= 0, values * self._repeat, values / self._repeat)
        logits[seen] = values - self._counts[seen] * self._frequency - self._presence


def logprobs(logits: np.ndarray, token: int, top: int) -> Logprobs:
    """Natural logarithms of the probabilities by these logits: of a token, and of the `top` most likely ones, best first."""
    highest = logits.max()
    total = highest + np.log(np.exp(logits - highest).sum(dtype=np.float64))
    best = _best(logits, top)
    return Logprobs(float(logits[token] - total), tuple(zip(best.tolist(), (logits[best] - total).tolist(), strict=True)))


def _best(logits: np.ndarray, count: int) -> np.ndarray:
    """The tokens of the `count` largest logits, largest first, of equal ones the lower token first.

    The count-th largest of the blocks' maxima is no larger than the count-th largest logit: few are left to sort.
    """
    if count == 0:
        return np.empty(0, np.intp)
    maxima = logits[: len(logits) // BLOCK * BLOCK].reshape(-1, BLOCK).max(axis=1)
    least = np.partition(maxima, -count)[-count] if count <= len(maxima) else -np.inf
    candidates = np.flatnonzero(logits >= least)
    return candidates[np.argsort(-logits[candidates], kind="stable")[:count]]
