"""What there is to say about the files that go with a question, and about how full a conversation is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FilesWords:
    """One language. `{…}` is filled in by the browser's scripts; `reasons` by the names of services/ui/reading.py, `kinds` by what a
    file turned out to be."""

    attach: str
    drop: str
    waiting: str
    reading: str
    tokens: str
    look: str
    remove: str
    close: str
    added: str
    removed: str
    patience: str
    refused: str
    no_room: str

    reasons: dict[str, str]
    kinds: dict[str, str]

    fullness: str
    of: str
    nearly: str
    full: str


EN = FilesWords(
    attach="Attach files: text, code, CSV or PDF",
    drop="Drop the files here: text, Markdown, code, CSV or PDF",
    waiting="Files that go with the question",
    reading="reading…",
    tokens="{count} tokens",
    look="Show the text of {name}",
    remove="Remove {name}",
    close="Close",
    added="{name} goes with the question: {count} tokens.",
    removed="{name} is removed.",
    patience="A file is still being read. Send the question in a moment.",
    refused="{name}: {why}",
    no_room="needs {needed} tokens, {free} are free ({room} more are kept for the answer). Attach a smaller part of it, remove other "
    "files, or start a new chat.",
    reasons={
        "empty": "there is nothing in it.",
        "too_large": "has {found} MB; at most {most} MB can be read. Attach a smaller part of it.",
        "too_long": "holds {found} MB of text; at most {most} MB can be read. Attach a smaller part of it.",
        "binary": "is no text, but {found}. Attach text, Markdown, code, CSV or a PDF.",
        "encoding": "is neither UTF-8 nor UTF-16 nor GB18030: byte {found} fits none of them. Save it as UTF-8 and attach it again.",
        "pdf_encrypted": "is an encrypted PDF. Open it with its password, print it into a new PDF, and attach that one.",
        "pdf_no_text": "is a PDF without text ({found} pages): probably it was scanned. Attach one in which text can be selected.",
        "pdf_broken": "is a PDF that can't be read, or only the beginning of one. Print it into a new PDF, and attach that one.",
        "pdf_damaged": "is a PDF that can't be read (page {found} is damaged). Print it into a new PDF, and attach that one.",
        "pdf_too_much": "is a PDF that takes too long or too much memory to read. Attach a part of it, or its text.",
        "uncounted": "is read, but the model is not ready to count its tokens. Attach it again in a minute.",
        "unopened": "could not be opened. Is it a folder? Attach the files in it.",
        "unreached": "could not be sent to Cloister. See that it is running, then attach the file again.",
    },
    kinds={
        "office": "an office document (save it as PDF, text or CSV)",
        "archive": "an archive (unpack it)",
        "image": "a picture, and this model can't see",
        "media": "sound or film",
        "program": "a program",
        "other": "binary data",
    },
    fullness="How full the conversation is",
    of="{used} of {context} tokens",
    nearly="The conversation is nearly full: {left} tokens are left for the next question and its answer. Keep it short, remove files, or "
    "start a new chat.",
    full="The conversation is full: {left} tokens are left, too few for a question and its answer. Start a new chat, remove files, or "
    "edit an earlier question and go on from there.",
)

ZH = FilesWords(
    attach="添加文件：文本、代码、CSV 或 PDF",
    drop="把文件放到这里：文本、Markdown、代码、CSV 或 PDF",
    waiting="随问题一起发送的文件",
    reading="正在读取…",
    tokens="{count} 个词元",
    look="查看 {name} 的内容",
    remove="移除 {name}",
    close="关闭",
    added="{name} 会随问题一起发送，共 {count} 个词元。",
    removed="已移除 {name}。",
    patience="还有文件正在读取，请稍后再发送。",
    refused="{name}：{why}",
    no_room="需要 {needed} 个词元，只剩 {free} 个（另有 {room} 个留给回答）。请只添加其中一部分，移除别的文件，或开始新对话。",
    reasons={
        "empty": "里面没有内容。",
        "too_large": "大小是 {found} MB，最多只能读取 {most} MB。请只添加其中一部分。",
        "too_long": "文字有 {found} MB，最多只能读取 {most} MB。请只添加其中一部分。",
        "binary": "不是文本，而是{found}。请添加文本、Markdown、代码、CSV 或 PDF。",
        "encoding": "既不是 UTF-8、UTF-16，也不是 GB18030：第 {found} 个字节都对不上。请另存为 UTF-8 后再添加。",
        "pdf_encrypted": "是加密的 PDF。请用密码打开，打印成新的 PDF 后再添加。",
        "pdf_no_text": "是没有文字的 PDF（{found} 页），多半是扫描件。请添加能选中文字的 PDF。",
        "pdf_broken": "是无法读取的 PDF，或者不完整。请打印成新的 PDF 后再添加。",
        "pdf_damaged": "是无法读取的 PDF（第 {found} 页已损坏）。请打印成新的 PDF 后再添加。",
        "pdf_too_much": "这个 PDF 读取起来太费时间或内存。请只添加其中一部分，或直接添加文字。",
        "uncounted": "已经读取，但模型还没有就绪，数不了词元。请过一分钟再添加。",
        "unopened": "打不开。如果是文件夹，请添加里面的文件。",
        "unreached": "没能发送给 Cloister。请确认它正在运行，然后再添加。",
    },
    kinds={
        "office": "办公文档（请另存为 PDF、文本或 CSV）",
        "archive": "压缩包（请先解压）",
        "image": "图片，而这个模型看不了图",
        "media": "音频或视频",
        "program": "程序",
        "other": "二进制数据",
    },
    fullness="对话的已用长度",
    of="{used} / {context} 个词元",
    nearly="对话快满了：只剩 {left} 个词元留给下一个问题和回答。请问得短些，移除文件，或开始新对话。",
    full="对话已经满了：只剩 {left} 个词元，放不下一个问题和它的回答。请开始新对话，移除文件，或修改前面的问题，从那里继续。",
)
