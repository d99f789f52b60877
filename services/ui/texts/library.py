"""What there is to say about versions of a question or an answer, and about the conversations that the browser keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LibraryWords:
    """One language. `{…}` is filled in by the browser's scripts."""

    version: str
    earlier: str
    later: str
    proceed: str

    conversations: str
    open: str
    close: str
    new: str
    search: str
    nothing_found: str
    nothing_kept: str
    here: str  # why nobody else sees them
    untitled: str
    rename: str
    name: str
    delete: str
    deleted: str
    undo: str
    delete_all: str
    sure: str
    keep: str
    trouble: str

    export_markdown: str
    export_json: str
    export_all: str
    take_in: str
    more: str
    taken_in: str
    refused: str
    too_large: str
    not_json: str
    not_ours: str
    newer: str
    damaged: str
    choose: str
    question: str
    thought: str
    answer: str
    file: str


EN = LibraryWords(
    version="Version {shown} of {all}",
    earlier="Earlier version",
    later="Later version",
    proceed="Continue",
    conversations="Conversations",
    open="Show the conversations",
    close="Close",
    new="New chat",
    search="Search",
    nothing_found="Nothing found.",
    nothing_kept="Your conversations will stand here.",
    here="Kept in this browser only.",
    untitled="Without a title",
    rename="Rename",
    name="Title of the conversation",
    delete="Delete",
    deleted="Deleted: {title}",
    undo="Undo",
    delete_all="Delete all",
    sure="Delete all {count} conversations? This can't be undone.",
    keep="Keep them",
    trouble="This browser does not let the page keep anything ({why}). Conversations last only until this page is closed: export "
    "what you need.",
    export_markdown="Export this one as Markdown",
    export_json="Export this one as JSON",
    export_all="Export all as JSON",
    take_in="Import JSON",
    more="Export, import, delete",
    taken_in="Imported: {count}.",
    refused="Nothing was imported from {file}.",
    too_large="It has {found} MB; at most {most} MB can be read.",
    not_json="It is not JSON: the reading stopped with “{found}”.",
    not_ours="It is JSON, but not conversations exported by Cloister (found: {found}).",
    newer="It is in format {found}; this page reads format {most}.",
    damaged="Conversation {number} is damaged at “{found}”.",
    choose="Choose a file that was made with “Export all as JSON” or “Export this one as JSON”.",
    question="Question",
    thought="Thought",
    answer="Answer",
    file="conversations",
)

ZH = LibraryWords(
    version="第 {shown} 版，共 {all} 版",
    earlier="上一版",
    later="下一版",
    proceed="继续写",
    conversations="对话记录",
    open="打开对话记录",
    close="关闭",
    new="新对话",
    search="搜索",
    nothing_found="没有找到。",
    nothing_kept="你的对话会出现在这里。",
    here="只保存在这个浏览器里。",
    untitled="无标题",
    rename="改名",
    name="对话标题",
    delete="删除",
    deleted="已删除：{title}",
    undo="撤销",
    delete_all="全部删除",
    sure="要删除全部 {count} 个对话吗？删除后无法恢复。",
    keep="保留",
    trouble="浏览器不允许本页保存内容（{why}）。关闭本页后对话就会消失，需要的请先导出。",
    export_markdown="把这个对话导出为 Markdown",
    export_json="把这个对话导出为 JSON",
    export_all="把全部对话导出为 JSON",
    take_in="导入 JSON",
    more="导出、导入、删除",
    taken_in="已导入 {count} 个对话。",
    refused="没有从 {file} 导入任何内容。",
    too_large="文件有 {found} MB，最多只能读取 {most} MB。",
    not_json="它不是 JSON，读到这里出错：“{found}”。",
    not_ours="它是 JSON，但不是 Cloister 导出的对话（内容是：{found}）。",
    newer="它的格式版本是 {found}，本页能读的是 {most}。",
    damaged="第 {number} 个对话已损坏，出错的地方是“{found}”。",
    choose="请选择用“把全部对话导出为 JSON”或“把这个对话导出为 JSON”得到的文件。",
    question="问题",
    thought="思考",
    answer="回答",
    file="对话",
)
