"""What a request leaves open is filled in from the model's manifest."""

from __future__ import annotations

import dataclasses

from services.api.conversation import Wanted
from services.api.model import TOP_K, ServedModel
from services.shared.wire import Sampling
from tests.shared.test_files import MANIFEST


def served(generation: dict[str, float]) -> ServedModel:
    return ServedModel(dataclasses.replace(MANIFEST, generation=generation), None, 4096, True)


def test_the_authors_defaults_fill_what_is_not_asked() -> None:
    model = served({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repeat_penalty": 1.05})
    assert model.sampling(Wanted(sampling={"temperature": None, "seed": 7})) == Sampling(0.6, 0.95, 20, repeat_penalty=1.05, seed=7)
    assert model.sampling(Wanted(sampling={"temperature": 0.0, "top_k": -1, "repeat_penalty": 1.0})) == Sampling(0.0, 0.95, 0)


def test_without_authors_defaults_sampling_is_plain() -> None:
    assert served({}).sampling(Wanted()) == Sampling(temperature=1.0, top_p=1.0, top_k=TOP_K)
