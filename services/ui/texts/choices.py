"""What there is to say about how answers are made: the settings that a visitor may change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChoicesWords:
    """One language. A name, and a note that says what it does. `{least}`, `{most}` and `{value}` are figures."""

    open: str
    changed: str  # the button's name, where something differs from the model's own
    close: str
    here: str  # how long they hold, and where they are kept

    system: str
    system_note: str
    system_empty: str
    temperature: str
    temperature_note: str
    top_p: str
    top_p_note: str
    max_tokens: str
    max_tokens_note: str
    thinking: str
    thinking_note: str
    thinking_own: str
    thinking_on: str
    thinking_off: str
    thinking_budget: str
    thinking_budget_note: str
    adapter: str
    adapter_note: str

    any_number: str  # what may stand in a field
    whole_number: str
    some_text: str
    wrong: str
    own: str
    own_unknown: str  # stands in a field where the model is not there yet
    unlimited: str

    reset: str
    was_reset: str
    undo: str


EN = ChoicesWords(
    open="Settings",
    changed="Settings: {count} changed",
    close="Close",
    here="What you leave empty is as the model's authors have it. Changes hold from the next answer on and stay in this browser.",
    system="System prompt",
    system_note="How the model shall answer, told to it before every conversation.",
    system_empty="For example: Answer in short sentences.",
    temperature="Temperature",
    temperature_note="How freely words are chosen: at 0 it is always the likeliest one.",
    top_p="Top-p",
    top_p_note="Only the likeliest words come into question, up to this share of the probability.",
    max_tokens="Longest answer",
    max_tokens_note="In tokens, the thinking included.",
    thinking="Thinking",
    thinking_note="Off is quicker, and worse at whatever has to be worked out.",
    thinking_own="As the model does",
    thinking_on="On",
    thinking_off="Off",
    thinking_budget="Longest thinking",
    thinking_budget_note="In tokens; then it has to answer. 0 is no thinking.",
    adapter="Model",
    adapter_note="With one of its LoRA adapters, or without.",
    any_number="A number from {least} to {most}.",
    whole_number="A whole number from {least} to {most}.",
    some_text="At most {most} characters.",
    wrong="Not kept.",
    own="The model's own: {value}.",
    own_unknown="the model's own",
    unlimited="no limit",
    reset="All as the model has it",
    was_reset="All is as the model has it.",
    undo="Undo",
)

ZH = ChoicesWords(
    open="设置",
    changed="设置：改了 {count} 项",
    close="关闭",
    here="留空的项目用模型作者给的默认值。改动从下一个回答起生效，只保存在这个浏览器里。",
    system="系统提示词",
    system_note="告诉模型该怎样回答，每次对话开头都会先告诉它。",
    system_empty="例如：用短句回答。",
    temperature="温度",
    temperature_note="选词的随意程度：0 表示总选最可能的词。",
    top_p="Top-p",
    top_p_note="只从最可能的词里选，累计到这个概率为止。",
    max_tokens="回答长度上限",
    max_tokens_note="单位是词元，思考也算在内。",
    thinking="思考",
    thinking_note="关闭后回答更快，但需要推算的问题更容易答错。",
    thinking_own="按模型默认",
    thinking_on="开启",
    thinking_off="关闭",
    thinking_budget="思考长度上限",
    thinking_budget_note="单位是词元，到了就必须开始回答。0 表示不思考。",
    adapter="模型",
    adapter_note="可以加上它的一个 LoRA 适配器。",
    any_number="{least} 到 {most} 之间的数。",
    whole_number="{least} 到 {most} 之间的整数。",
    some_text="最多 {most} 个字符。",
    wrong="没有保存。",
    own="模型默认：{value}。",
    own_unknown="模型默认值",
    unlimited="不限",
    reset="全部恢复为模型默认",
    was_reset="已全部恢复为模型默认。",
    undo="撤销",
)
