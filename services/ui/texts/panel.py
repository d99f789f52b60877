"""What the status panel says, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PanelWords:
    """`{name}` marks what is filled in. Dictionaries go by what the API tells: states, kinds of sources, bits of a quant. `small` and
    `large` are the language's words for great numbers."""

    open: str
    title: str
    close: str
    copy: str
    copied: str
    states: dict[str, str]
    no_figures: str
    ago: str
    utc: str
    minutes: str
    hours: str
    colon: str
    comma: str

    # Now
    speed: str
    per_second: str
    speed_note: str
    lately: str
    quiet: str
    answering: str
    of: str
    nobody_waits: str
    waiting: str
    kv: str
    kv_note: str
    kv_of: str
    memory: str
    memory_note: str
    memory_of: str

    # Over time
    history: str
    history_note: str
    plot_queue: str
    running_line: str
    waiting_line: str
    plot_kv: str
    plot_memory: str
    engine_line: str
    used_line: str
    now: str
    when: str
    table: str
    gaps: str
    nothing: str
    described: str

    # Engine
    engine: str
    since: str
    restarts: str
    restarts_none: str
    restarts_some: str
    threads: str
    threads_set: str
    threads_by_cpus: str
    threads_by_cores: str
    threads_by_quota: str
    threads_fewer: str
    limits: str
    cpus: str
    cores: str
    quota: str
    quota_none: str
    variant: str
    throttled: str
    throttled_none: str
    throttled_some: str
    evicted: str
    evicted_note: str
    preempted: str
    preempted_note: str
    times: str
    tokens: str
    tokens_made: str

    # Model
    model: str
    no_model: str
    name: str
    parameters: str
    parameters_are: str
    small: str
    large: str
    quant: str
    quants: dict[str, str]
    size: str
    context: str
    context_is: str
    context_trained: str
    adapters: str
    adapters_none: str

    # Where it comes from
    provenance: str
    source: str
    sources: dict[str, str]
    repo: str
    revision: str
    commit: str
    sha256: str
    sha256_note: str
    files: str
    file: str
    tools: str
    made: str

    # Walls
    isolation: str
    check: str
    check_never: str
    check_how: str
    check_bare: str
    check_closed: str
    check_open: str
    check_missed: str
    check_limits: str
    live: str
    live_note: str
    live_api: str
    live_page: str
    live_none: str
    live_some: str
    live_bare: str
    live_alarm: str
    live_unknown: str


EN = PanelWords(
    open="Status: model, speed, memory",
    title="Status",
    close="Close",
    copy="Copy",
    copied="Copied",
    states={
        "starting": "The model's service does not answer",
        "preparing": "Preparing the model",
        "loading": "Loading the model",
        "ready": "Ready",
        "failed": "Failed",
    },
    no_figures="No figures: the engine is not running.",
    ago="{time} ago",
    utc="{time} UTC",
    minutes="{count} min",
    hours="{count} h",
    colon=": ",
    comma=", ",
    speed="Speed",
    per_second="{speed} tokens/s",
    speed_note="All answers together, over the last few seconds.",
    lately="Lately {speed} while answering",
    quiet="No answer seen in the last 10 minutes",
    answering="Answering",
    of="{count} of {all}",
    nobody_waits="Nobody waits",
    waiting="{count} waiting, for up to {time}",
    kv="Working memory for conversations",
    kv_note="The KV cache: what the model has read and written. Conversations that have ended stay in it until the room is needed.",
    kv_of="{used} of {all} tokens",
    memory="Memory",
    memory_note="What the engine holds; beside it, what all programs here hold.",
    memory_of="All programs: {used} of {all}",
    history="Over time",
    history_note="The page's server looks every 5 seconds and keeps an hour of figures. Grey stretches: the engine gave none.",
    plot_queue="Requests",
    running_line="answering",
    waiting_line="waiting",
    plot_kv="KV cache, tokens",
    plot_memory="Memory",
    engine_line="engine",
    used_line="all programs",
    now="now",
    when="When",
    table="As a table",
    gaps="Some stretches have no figures.",
    nothing="There are no figures yet.",
    described="{title} over the last {time}: now {last}; lowest {low}, highest {high}.",
    engine="Engine",
    since="Running for",
    restarts="Restarts",
    restarts_none="None in the {time} since the service began",
    restarts_some="{count} in the {time} since the service began",
    threads="Threads that compute",
    threads_set="{count}: set in the configuration ([engine] threads).",
    threads_by_cpus="{count}: one for each CPU that Cloister may use.",
    threads_by_cores="{count}: one for each physical core; two on one core would only wait for each other.",
    threads_by_quota="{count}: no more than the CPU quota allows.",
    threads_fewer="At the moment {count}: other programs want the CPUs.",
    limits="What there is",
    cpus="{count} CPUs",
    cores="{count} physical cores",
    quota="a quota of {count} CPUs",
    quota_none="no CPU quota",
    variant="Compiled for",
    throttled="Held up by the CPU quota",
    throttled_none="Never",
    throttled_some="{time} in all",
    evicted="Forgotten for want of room",
    evicted_note="Earlier conversations that had to leave the working memory.",
    preempted="Interrupted for want of room",
    preempted_note="Answers that had to wait for others; they went on later.",
    times="{count} times",
    tokens="Tokens since it runs",
    tokens_made="{read} read, {written} written",
    model="Model",
    no_model="No model is loaded.",
    name="Name",
    parameters="Parameters",
    parameters_are="{count} numbers that it has learned",
    small="{count} million",
    large="{count} billion",
    quant="Compression",
    quants={
        "4": "Each of the learned numbers takes about 4 bits instead of 16: a third of the size, much faster, a little less exact.",
        "5": "Each of the learned numbers takes about 5 bits instead of 16: a good third of the size, a touch less exact.",
        "6": "Each of the learned numbers takes about 6 bits instead of 16: less than half the size, hardly less exact.",
        "8": "Each of the learned numbers takes about 8 bits instead of 16: half the size, practically as exact.",
        "16": "The learned numbers stand in 16 bits, as their authors published them: nothing is lost, and it is slowest.",
        "": "How the learned numbers are stored.",
    },
    size="{size}; {bits} bits for each learned number on average.",
    context="Longest conversation",
    context_is="{count} tokens: about {words} English words or {characters} Chinese characters.",
    context_trained="The model was trained for {count}.",
    adapters="Adapters (LoRA)",
    adapters_none="None",
    provenance="Where it comes from",
    source="Source",
    sources={
        "hub": "Downloaded from a model hub",
        "folder": "A folder with a checkpoint on this computer",
        "gguf": "A ready GGUF file on this computer",
        "demo": "Built into Cloister, nothing was downloaded",
        "": "Unknown",
    },
    repo="Repository",
    revision="Revision asked for",
    commit="Commit",
    sha256="SHA-256 of the file in use",
    sha256_note="Compare it with sha256sum model.gguf on the model volume.",
    files="SHA-256 of the source files ({count})",
    file="File",
    tools="Made with",
    made="Made",
    isolation="Isolation",
    check="Last attempt to break out",
    check_never="Never checked since the model's service was started.",
    check_how="This command checks it:",
    check_bare="It is for containers (scripts/up --docker); here Cloister runs without them.",
    check_closed="{ago}, from inside of {names}: {tried} ways out were tried as root, all were closed.",
    check_open="{ago}: A WAY OUT WAS OPEN. {names}: {open} of {tried} ways.",
    check_missed="Not checked, since it could not be entered: {names}.",
    check_limits="It says nothing of ways that were not tried, nor of what was changed since.",
    live="What the programs see right now",
    live_note="Each only asks the kernel whether there is a route; nothing is sent. This shows less than the check.",
    live_api="The model's service",
    live_page="This page's server",
    live_none="no route to the internet",
    live_some="a route to the internet ({kinds})",
    live_bare="Without containers that is normal: Cloister sends nothing out, but no wall would keep it from doing so.",
    live_alarm="In Cloister's containers there should be none: run the check.",
    live_unknown="unknown",
)

ZH = PanelWords(
    open="状态：模型、速度、内存",
    title="状态",
    close="关闭",
    copy="复制",
    copied="已复制",
    states={
        "starting": "模型服务没有应答",
        "preparing": "正在准备模型",
        "loading": "正在载入模型",
        "ready": "就绪",
        "failed": "失败",
    },
    no_figures="引擎没有运行，暂无数据。",
    ago="{time}前",
    utc="{time} UTC",
    minutes="{count} 分钟",
    hours="{count} 小时",
    colon="：",
    comma="、",
    speed="速度",
    per_second="{speed} 词元/秒",
    speed_note="所有回答合计，取最近几秒。",
    lately="近来回答时 {speed}",
    quiet="最近 10 分钟没看到回答",
    answering="正在回答",
    of="{count} / {all}",
    nobody_waits="没有人排队",
    waiting="{count} 个在排队，最久等了 {time}",
    kv="对话缓存",
    kv_note="即 KV 缓存，存放模型读过和写过的内容。结束的对话也留在里面，需要空间时才清掉。",
    kv_of="{used} / {all} 词元",
    memory="内存",
    memory_note="引擎占用的内存；另列这里所有程序的占用。",
    memory_of="所有程序：{used} / {all}",
    history="变化",
    history_note="页面服务器每 5 秒看一次，只保留一小时的数字。灰色表示那段时间引擎没有数据。",
    plot_queue="请求",
    running_line="正在回答",
    waiting_line="排队",
    plot_kv="KV 缓存（词元）",
    plot_memory="内存",
    engine_line="引擎",
    used_line="所有程序",
    now="现在",
    when="时间",
    table="看表格",
    gaps="有些时段没有数据。",
    nothing="还没有数据。",
    described="{title}，最近 {time}：现在 {last}，最低 {low}，最高 {high}。",
    engine="引擎",
    since="已运行",
    restarts="重启",
    restarts_none="服务启动 {time}以来没有重启过",
    restarts_some="服务启动 {time}以来 {count} 次",
    threads="计算线程",
    threads_set="{count} 个：配置里指定的（[engine] threads）。",
    threads_by_cpus="{count} 个：能用的每个 CPU 一个。",
    threads_by_cores="{count} 个：每个物理核一个，同一个核上放两个只会互相等待。",
    threads_by_quota="{count} 个：CPU 配额只允许这么多。",
    threads_fewer="眼下只用 {count} 个，因为别的程序也要用 CPU。",
    limits="可用资源",
    cpus="{count} 个 CPU",
    cores="{count} 个物理核",
    quota="配额 {count} 个 CPU",
    quota_none="没有 CPU 配额",
    variant="编译目标",
    throttled="被 CPU 配额拖住",
    throttled_none="没有",
    throttled_some="共 {time}",
    evicted="因空间不够而忘掉",
    evicted_note="较早的对话被清出缓存的次数。",
    preempted="因空间不够而中断",
    preempted_note="回答给别人让位的次数，之后会接着写完。",
    times="{count} 次",
    tokens="运行以来的词元",
    tokens_made="读了 {read}，写了 {written}",
    model="模型",
    no_model="还没有载入模型。",
    name="名称",
    parameters="参数",
    parameters_are="{count}，就是它学到的数字的个数",
    small="{count} 万",
    large="{count} 亿",
    quant="压缩",
    quants={
        "4": "学到的每个数字只占约 4 位，而不是 16 位：大小只有三分之一，快得多，略微损失一点精度。",
        "5": "学到的每个数字只占约 5 位，而不是 16 位：大小是三分之一多一点，精度损失很小。",
        "6": "学到的每个数字只占约 6 位，而不是 16 位：大小不到一半，精度几乎不变。",
        "8": "学到的每个数字只占约 8 位，而不是 16 位：大小是一半，精度基本不变。",
        "16": "学到的数字都是 16 位，和作者发布的一样：没有任何损失，但也最慢。",
        "": "学到的数字的存放方式。",
    },
    size="{size}，平均每个数字 {bits} 位。",
    context="一次对话最长",
    context_is="{count} 词元，大约 {characters} 个汉字，或 {words} 个英文单词。",
    context_trained="模型训练时的长度是 {count}。",
    adapters="适配器（LoRA）",
    adapters_none="没有",
    provenance="来源",
    source="从哪里来",
    sources={
        "hub": "从模型站下载",
        "folder": "本机上的模型文件夹",
        "gguf": "本机上现成的 GGUF 文件",
        "demo": "Cloister 自带，没有下载任何东西",
        "": "不清楚",
    },
    repo="仓库",
    revision="要求的版本",
    commit="提交",
    sha256="正在使用的文件的 SHA-256",
    sha256_note="可在模型卷里运行 sha256sum model.gguf 来核对。",
    files="源文件的 SHA-256（{count} 个）",
    file="文件",
    tools="制作工具",
    made="制作时间",
    isolation="隔离",
    check="上一次突围检查",
    check_never="模型服务启动以来还没有检查过。",
    check_how="用这条命令检查：",
    check_bare="它检查的是容器（scripts/up --docker），而这里的 Cloister 没有用容器。",
    check_closed="{ago}，在 {names} 里以 root 身份试了 {tried} 条出路，全部不通。",
    check_open="{ago}：发现了出路！{names}：{tried} 条里有 {open} 条是通的。",
    check_missed="没能进入，因此没有检查：{names}。",
    check_limits="没试过的出路，以及之后的改动，都不在结果之内。",
    live="程序眼下看到的",
    live_note="各自只问内核有没有路由，不发送任何东西。它说明的比检查少。",
    live_api="模型服务",
    live_page="本页服务器",
    live_none="没有通往互联网的路由",
    live_some="有通往互联网的路由（{kinds}）",
    live_bare="不用容器时这是正常的：Cloister 不会往外发送，但也没有墙拦着它。",
    live_alarm="Cloister 的容器里不该有路由，请运行检查。",
    live_unknown="不清楚",
)
