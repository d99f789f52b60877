"""Every word that the page and the terminal say, in English and Chinese, and how durations are spoken.

`{name}` marks what is filled in. Knows nothing of where a word is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Example:
    """A question to begin with, and the few words that name it."""

    title: str
    question: str


@dataclass(frozen=True)
class Trouble:
    """What went wrong, in one sentence, and what to do about it."""

    what: str
    todo: str

    def __str__(self) -> str:
        return self.what + self.todo if self.what.endswith("。") else f"{self.what} {self.todo}"


@dataclass(frozen=True)
class Words:
    """One language."""

    tag: str  # BCP 47
    other: str  # the name of the language that the switch leads to, in that language
    hello: str
    promise: str
    demo_hint: str
    examples: tuple[Example, ...]

    new: str
    theme: str
    language: str
    placeholder: str
    send: str
    stop: str
    copy: str
    edit: str
    regenerate: str
    submit: str
    cancel: str
    to_the_end: str
    conversation: str
    connection: str

    private: str
    speed: str
    token: str
    compressed: str
    uncompressed: str

    waiting: str
    queued_next: str
    queued: str
    reading: str
    reading_percent: str
    thinking: str
    thought: str
    stopped: str
    stopped_before: str
    cut: str
    lost: str
    again: str
    details: str
    detail: str
    seconds: str
    minutes: str
    hours: str

    starting: str
    preparing: str
    preparing_note: str
    loading: str
    loading_note: str
    failed: str
    failed_todo: str
    steps: dict[str, str]
    of: str
    rate: str
    left: str
    parts: str
    demo_stands_in: str
    notice: str
    troubles: dict[str, Trouble]

    terminal_hello: str
    terminal_stopped: str
    terminal_nobody: str
    terminal_usage: str


EN = Words(
    tag="en",
    other="中文",
    hello="Ask. It thinks first, then answers.",
    promise="A reasoning model on your own computer, not in a cloud. What you write stays there.",
    demo_hint="The small demo model answers. It only knows chickens and rabbits, sums, dice odds, syllogisms and a few Python functions.",
    examples=(
        Example("Chickens and rabbits", "Chickens and rabbits share a cage: 35 heads and 94 legs. How many of each are there?"),
        Example(
            "Dice",
            "Two players roll a 6-sided die in turn; the first to roll a 6 wins. What is the probability that the first player wins?",
        ),
        Example("Palindromes", "Write a Python function that checks for a palindrome."),
        Example("Tigers that fly", "If every tiger can fly and Mimi is a tiger, can Mimi fly?"),
    ),
    new="New chat",
    theme="Light or dark",
    language="Language",
    placeholder="Ask anything",
    send="Send",
    stop="Stop",
    copy="Copy",
    edit="Edit",
    regenerate="Answer again",
    submit="Send the edited question",
    cancel="Leave it as it was",
    to_the_end="To the end",
    conversation="Conversation",
    connection="The connection is lost. Trying to reach Cloister again; what you see here is kept.",
    private="Private: stays on your computer",
    speed="{speed} tokens/s",
    token="A token is a piece of text: about three quarters of an English word, or one Chinese character and a half.",
    compressed="compressed to {bits} bits",
    uncompressed="uncompressed",
    waiting="Waiting for the model",
    queued_next="Waiting: you are next",
    queued="Waiting: {before} before you",
    reading="Reading your question",
    reading_percent="Reading your question: {percent} %",
    thinking="Thinking",
    thought="Thought for {time}",
    stopped="Stopped.",
    stopped_before="Stopped before the answer began.",
    cut="The answer was cut here: there was no room left. Ask it to go on, or start a new chat.",
    lost="The connection was lost here. What had arrived is kept.",
    again="Try again",
    details="Details",
    detail="Details: {detail}",
    seconds="{seconds} s",
    minutes="{minutes} min {seconds} s",
    hours="{hours} h {minutes} min",
    starting="Cloister is starting",
    preparing="Preparing the model",
    preparing_note="This happens once. The chat opens by itself; you can leave this page open or come back later.",
    loading="Waking the model",
    loading_note="It is being read into memory. This takes a few seconds, or a minute for a large one.",
    failed="The model could not be prepared",
    failed_todo="Put right what it names and start Cloister again. What is already downloaded is kept.",
    steps={
        "fetch": "Download",
        "verify": "Check the download",
        "convert": "Convert for this computer",
        "quantize": "Compress, so that it runs fast",
        "check": "Try it out",
        "publish": "Finish",
    },
    of="{done} of {total}",
    rate="{rate} a second",
    left="about {time} left",
    parts="{count} parts",
    demo_stands_in="The wanted model can't be downloaded at the moment, so the small built-in demo stands in. It only knows chickens and "
    "rabbits, small sums, dice odds, syllogisms and a few Python functions.",
    notice="Please note: {notice}",
    troubles={
        "context_length_exceeded": Trouble(
            "This conversation has become longer than the model can hold.", "Shorten the question, or start a new chat."
        ),
        "request_too_large": Trouble("This question is too long to be sent.", "Shorten it, then send it again."),
        "overloaded": Trouble("Too many people are asking at the moment.", "Wait a little, then try again."),
        "engine_failed": Trouble("The model stopped in the middle; it is being started again.", "Try again in a few seconds."),
        "unavailable": Trouble("The model is not ready.", "Try again in a minute."),
        "unreachable": Trouble("The model's service does not answer.", "See that Cloister is running, then try again."),
        "silent": Trouble("The model's service has fallen silent.", "Try again; if it stays so, start Cloister again."),
        "broken": Trouble("The answer broke off on its way.", "Try again."),
        "": Trouble("Something went wrong.", "Try again; if it stays so, look into Cloister's log."),
    },
    terminal_hello="Cloister · {model}\n/new starts over, /quit or Ctrl-D leaves, Ctrl-C stops an answer.",
    terminal_stopped="stopped",
    terminal_nobody="Nothing answers at {url}. Start Cloister with scripts/up, or name its address with --url.",
    terminal_usage="Ask a question in the terminal; without one, hold a conversation.",
)

ZH = Words(
    tag="zh-CN",
    other="English",
    hello="先思考，再回答。",
    promise="推理模型在你自己的电脑上运行，不在云端。你写下的内容只留在那里。",
    demo_hint="现在回答的是演示模型，只会鸡兔同笼、加减乘法、骰子概率、三段论和几个 Python 函数。",
    examples=(
        Example("鸡兔同笼", "鸡兔同笼，共有 35 个头，94 条腿，请问鸡和兔各有多少只？"),
        Example("掷骰子", "甲乙两人轮流掷骰子，谁先掷出6谁赢，甲先掷，求甲获胜的概率。"),
        Example("回文", "写一个 Python 函数判断回文字符串。"),
        Example("会飞的猫", "如果所有猫都会飞，而咪咪是一只猫，那么咪咪会飞吗？"),
    ),
    new="新对话",
    theme="浅色或深色",
    language="语言",
    placeholder="想问什么？",
    send="发送",
    stop="停止",
    copy="复制",
    edit="修改",
    regenerate="重新回答",
    submit="发送修改后的问题",
    cancel="不修改",
    to_the_end="到最后",
    conversation="对话",
    connection="连接中断，正在重新连接 Cloister。这里的内容都会保留。",
    private="私密：内容不出本机",
    speed="{speed} 词元/秒",
    token="词元是模型读写的最小单位：一个词元约为一个半汉字，或四分之三个英文单词。",
    compressed="压缩到 {bits} 位",
    uncompressed="未压缩",
    waiting="正在等模型就绪",
    queued_next="排队中：下一个就是你",
    queued="排队中：前面还有 {before} 人",
    reading="正在读题",
    reading_percent="正在读题：{percent}%",
    thinking="正在思考",
    thought="思考了 {time}",
    stopped="已停止。",
    stopped_before="已停止，还没有开始回答。",
    cut="写到这里没有空间了，回答被截断。可以让它继续，或开始新对话。",
    lost="连接在这里中断了，已收到的内容都保留着。",
    again="再试一次",
    details="详情",
    detail="详情：{detail}",
    seconds="{seconds} 秒",
    minutes="{minutes} 分 {seconds} 秒",
    hours="{hours} 小时 {minutes} 分",
    starting="Cloister 正在启动",
    preparing="正在准备模型",
    preparing_note="只需准备一次。准备好后对话会自动打开，你可以让页面开着，也可以稍后再来。",
    loading="正在唤醒模型",
    loading_note="模型正在读入内存，通常几秒钟，大的模型要一分钟左右。",
    failed="模型没能准备好",
    failed_todo="请按上面的提示处理，然后重新启动 Cloister。已经下载的部分不会丢失。",
    steps={
        "fetch": "下载",
        "verify": "核对下载内容",
        "convert": "转换成本机能用的格式",
        "quantize": "压缩，让它跑得更快",
        "check": "试运行",
        "publish": "完成",
    },
    of="{done} / {total}",
    rate="每秒 {rate}",
    left="大约还要 {time}",
    parts="{count} 份",
    demo_stands_in="暂时无法下载想要的模型，现在由内置的小演示模型代替。它只会鸡兔同笼、加减乘法、掷骰子概率、三段论和几个 Python 小函数。",
    notice="请注意：{notice}",
    troubles={
        "context_length_exceeded": Trouble("这次对话已经超出模型能记住的长度。", "请缩短问题，或开始新对话。"),
        "request_too_large": Trouble("这个问题太长，发送不了。", "请缩短后再发送。"),
        "overloaded": Trouble("现在提问的人太多。", "请稍等一会儿再试。"),
        "engine_failed": Trouble("模型中途停了，正在重新启动。", "请过几秒钟再试。"),
        "unavailable": Trouble("模型还没有就绪。", "请过一分钟再试。"),
        "unreachable": Trouble("模型服务没有应答。", "请确认 Cloister 正在运行，然后再试。"),
        "silent": Trouble("模型服务很久没有动静。", "请再试一次；如果还是这样，请重新启动 Cloister。"),
        "broken": Trouble("回答在路上中断了。", "请再试一次。"),
        "": Trouble("出了点问题。", "请再试一次；如果还是这样，请查看 Cloister 的日志。"),
    },
    terminal_hello="Cloister · {model}\n/new 重新开始，/quit 或 Ctrl-D 退出，Ctrl-C 停止回答。",
    terminal_stopped="已停止",
    terminal_nobody="{url} 没有应答。请先运行 scripts/up 启动 Cloister，或用 --url 指明地址。",
    terminal_usage="在终端里提问；不带问题则进入对话。",
)

WORDS: dict[Language, Words] = {"en": EN, "zh": ZH}


def preferred(accept_language: str) -> Language:
    """The language that a browser (Accept-Language) or a terminal (LANG) asks for first among ours; English when neither."""
    wanted = []
    for place, item in enumerate(accept_language.split(",")):
        name, _, quality = item.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), place, name.lower()))
        except ValueError:
            continue
    for _, _, name in sorted(wanted):
        if name.startswith("zh"):
            return "zh"
        if name.startswith("en"):
            return "en"
    return "en"


def spoken(words: Words, seconds: float) -> str:
    """A duration for people: whole seconds, at least one; above an hour, minutes will do."""
    whole = max(1, round(seconds))
    if whole < 60:
        return words.seconds.format(seconds=whole)
    if whole < 3600:
        return words.minutes.format(minutes=whole // 60, seconds=whole % 60)
    return words.hours.format(hours=whole // 3600, minutes=whole % 3600 // 60)
