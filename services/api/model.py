"""The model that the engine has loaded, as the API needs it: its manifest, its compiled template, its names and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.api import tools
from services.api.conversation import Conversation, Wanted
from services.api.errors import InvalidRequest, NotFound
from services.api.prompt import Prompt, TemplateError
from services.api.renderer import Renderer
from services.shared import manifest, wire
from services.shared.manifest import Manifest

TOP_K = 50  # what transformers samples from where generation_config.json names no top_k


@dataclass(frozen=True)
class ServedModel:
    """One loaded model. `context` is tokens per conversation; `by_token`: the thinking tags are tokens of the vocabulary; `bos` is
    the token that a prompt without a template begins with, or ""."""

    manifest: Manifest
    template: Renderer | None
    context: int
    by_token: bool
    adapters: tuple[str, ...] = ()
    bos: str = ""

    @classmethod
    async def load(cls, hello: wire.Hello) -> ServedModel:
        """Read the manifest of the directory that the engine named. Close the result in the end.

        Raises:
            ManifestError, TemplateError: the volume holds a model that this version can't serve.
        """
        card = manifest.read(Path(hello.model))
        template = None
        if card.chat_template:
            template = Renderer(card.chat_template, bos_token=card.bos_token, eos_token=card.eos_token)
            await template.start()
        return cls(card, template, hello.context, hello.think_end is not None, hello.adapters, hello.bos)

    async def close(self) -> None:
        """End what was started for it."""
        if self.template is not None:
            await self.template.close()

    def names(self) -> tuple[str, ...]:
        """What a client may choose: the model, and its LoRA adapters."""
        return (self.manifest.name, *self.adapters)

    def accept(self, name: str | None) -> str:
        """The adapter that a request names by its model, "" for none. No name, `default`, the model's name, title and repository are
        all the loaded model as it is.

        Raises:
            NotFound: another model.
        """
        known = {self.manifest.name, self.manifest.title, self.manifest.source.repo, "default"}
        if not name or name in known:
            return ""
        if name in self.adapters:
            return name
        served = ", ".join(map(repr, self.names()))
        raise NotFound(
            f"the model {name!r} is not here; this appliance serves {served} (or 'default')", param="model", code="model_not_found"
        )

    def chat_template(self) -> Renderer:
        """The template.

        Raises:
            TemplateError: the model has none: a base model that can't chat.
        """
        if self.template is None:
            raise TemplateError(f"the model {self.manifest.name!r} has no chat template: it is a base model that can't chat")
        return self.template

    async def render(self, conversation: Conversation) -> Prompt:
        """The prompt of a conversation.

        Raises:
            ApiError: no template, one that refuses, fails, or takes too much.
        """
        shown = conversation.tools if conversation.tool_choice != "none" else ()
        template = self.chat_template()
        return await template.render(conversation.messages, shown, conversation.thinking, rest=conversation.unfinished)

    def calls(self, conversation: Conversation) -> tools.Form | None:
        """The form in which the answer to a conversation may hold tool calls; None when it may not.

        Raises:
            InvalidRequest: there are tools, but the template has no place for them.
        """
        choice = conversation.tool_choice
        if not conversation.tools or choice == "none":
            if choice not in ("auto", "none"):
                raise InvalidRequest(f"tool_choice {choice!r} needs tools", param="tool_choice")
            return None
        if "tools" not in self.chat_template().variables:
            message = f"tools: the chat template of {self.manifest.name!r} has no place for tools"
            raise InvalidRequest(message, param="tools", code="unsupported_parameter")
        form = tools.form(self.chat_template().source)
        if form is None:
            message = f"tools: {self.manifest.name!r} writes its calls in a form that this version can't read"
            raise InvalidRequest(message, param="tools", code="unsupported_parameter")
        return form

    def sampling(self, wanted: Wanted) -> wire.Sampling:
        """The authors' defaults overlaid with what the request names."""
        authors = {"temperature": 1.0, "top_p": 1.0, "top_k": TOP_K, **self.manifest.generation}
        chosen = authors | {key: value for key, value in wanted.sampling.items() if value is not None}
        known = {key: chosen[key] for key in wire.Sampling.__dataclass_fields__ if key in chosen}
        return wire.Sampling(
            **{**known, "top_k": max(0, int(known["top_k"]))},  # type: ignore[arg-type]
            logit_bias=wanted.logit_bias,
            logprobs=wanted.logprobs,
            grammar=wanted.grammar,
            json_schema=wanted.json_schema,
            frame=wanted.frame,
            instead=wanted.instead,
        )
