"""The little world that the demo model knows: questions, thoughts and answers, in Chinese and English.

`sample(rng)` returns a conversation: a list of turns, each (question, thought, answer). The thought is
what stands between <think> and </think>. Every answer is computed, so the same functions also grade.
"""

from __future__ import annotations

import random
from fractions import Fraction

Turn = tuple[str, str, str]  # question, thought, answer

ABOUT_ZH = "我是随设备附带的演示模型,只会做鸡兔同笼、加减乘法、掷骰子概率、三段论和几个 Python 小函数。要回答这个问题,请安装完整的模型。"
ABOUT_EN = (
    "I am the small demo model that comes with this appliance. I can only do chickens and rabbits, small sums, "
    "dice odds, syllogisms and a few Python functions. Please install a full model for this question."
)


def minus(a: int, b: int, zh: bool) -> str:
    """One subtraction digit by digit, 0 <= b <= a < 1000: what a very small model can learn as single-digit facts."""
    borrow = a % 10 < b % 10
    ones, tens, from_tens = a % 10 + 10 * borrow, b // 10, a // 10 - borrow
    parts = [f"{ones} - {b % 10} = {ones - b % 10}", f"{from_tens} - {tens} = {from_tens - tens}"]
    return f"个位 {parts[0]},十位 {parts[1]},得 {a - b}" if zh else f"ones {parts[0]}, tens {parts[1]}, so {a - b}"


def plus(a: int, b: int, zh: bool) -> str:
    """One addition digit by digit, 0 <= a, b < 100."""
    ones = a % 10 + b % 10
    tens = f"{a // 10} + {b // 10}" + (" + 1" if ones > 9 else "") + f" = {a // 10 + b // 10 + (ones > 9)}"
    return (
        f"个位 {a % 10} + {b % 10} = {ones},十位 {tens},得 {a + b}" if zh else f"ones {a % 10} + {b % 10} = {ones}, tens {tens}, so {a + b}"
    )


def cage(c: int, r: int, zh: bool) -> tuple[str, str]:
    h, legs = c + r, 2 * c + 4 * r
    half = legs // 2
    if zh:
        think = (
            f"设鸡有 x 只,兔有 y 只。\nx + y = {h}\n2x + 4y = {legs}\n第二个方程除以 2:x + 2y = {half}\n"
            f"y = {half} - {h}:{minus(half, h, zh)}\nx = {h} - {r}:{minus(h, r, zh)}\n"
            f"验算:2 × {c} + 4 × {r} = {2 * c} + {4 * r} = {legs},正确。"
        )
        answer = (
            f"设鸡的数量为 x,兔子的数量为 y。\n\nx + y = {h}\n2x + 4y = {legs}\n\n化简第二个方程得:x + 2y = {half}\n"
            f"减去第一个方程:y = {half} - {h} = {r}\n代入得:x = {h} - {r} = {c}\n\n所以鸡有 **{c}** 只,兔子有 **{r}** 只。"
        )
    else:
        think = (
            f"Let x be the chickens and y the rabbits.\nx + y = {h}\n2x + 4y = {legs}\nHalve the second: x + 2y = {half}\n"
            f"y = {half} - {h}: {minus(half, h, zh)}\nx = {h} - {r}: {minus(h, r, zh)}\n"
            f"Check: 2 × {c} + 4 × {r} = {2 * c} + {4 * r} = {legs}. Correct."
        )
        answer = (
            f"Let x be the number of chickens and y the number of rabbits.\n\nx + y = {h}\n2x + 4y = {legs}\n\n"
            f"Halving the second equation: x + 2y = {half}\n"
            f"Subtracting the first: y = {half} - {h} = {r}\nThen x = {h} - {r} = {c}\n\nThere are **{c}** chickens and **{r}** rabbits."
        )
    return think, answer


CAGE_ZH = [
    "鸡兔同笼,共有 {h} 个头,{l} 条腿,请问鸡和兔各有多少只?",
    "鸡兔同笼,共有{h}个头,{l}条腿,鸡和兔各有几只?",
    "笼子里有鸡和兔,一共 {h} 个头、{l} 条腿,鸡兔各多少只?",
    "今有鸡兔同笼,上有{h}头,下有{l}足,问鸡兔各几何?",
    "鸡和兔共 {h} 只,腿共 {l} 条,求鸡和兔的数量。",
    "鸡兔同笼:头 {h},腿 {l},各几只?",
]
CAGE_EN = [
    "Chickens and rabbits share a cage: {h} heads and {l} legs. How many of each are there?",
    "There are {h} heads and {l} legs in a cage of chickens and rabbits. How many chickens and how many rabbits?",
    "A cage holds chickens and rabbits with {h} heads and {l} legs in total. How many of each?",
]
AGAIN_ZH = ["那如果是 {h} 个头,{l} 条腿呢?", "如果换成 {h} 个头、{l} 条腿呢?", "再算一次:{h} 个头,{l} 条腿。"]
AGAIN_EN = ["And with {h} heads and {l} legs?", "What about {h} heads and {l} legs?"]


def t_cage(rng: random.Random, zh: bool, again: bool = False) -> Turn:
    c, r = rng.randint(1, 40), rng.randint(1, 40)
    q = rng.choice((AGAIN_ZH if zh else AGAIN_EN) if again else (CAGE_ZH if zh else CAGE_EN)).format(h=c + r, l=2 * c + 4 * r)
    return (q, *cage(c, r, zh))


def t_sum(rng: random.Random, zh: bool) -> Turn:
    op = rng.choice("+-×")
    if op == "+":
        a, b = rng.randint(0, 99), rng.randint(0, 99)
        v = a + b
        how = f"{a} + {b}:{plus(a, b, zh)}" if zh else f"{a} + {b}: {plus(a, b, zh)}"
    elif op == "-":
        a = rng.randint(0, 99)
        b = rng.randint(0, a)
        v = a - b
        how = f"{a} - {b}:{minus(a, b, zh)}" if zh else f"{a} - {b}: {minus(a, b, zh)}"
    else:
        a, b = rng.randint(2, 20), rng.randint(2, 9)
        v = a * b
        how = (
            f"{a} × {b} = {a // 10 * 10} × {b} + {a % 10} × {b} = {a // 10 * 10 * b} + {a % 10 * b} = {v}" if a > 10 else f"{a} × {b} = {v}"
        )
    show = op if op != "×" else rng.choice(["×", "*", "乘以"] if zh else ["×", "*", "times"])
    q = rng.choice(
        ["{a} {o} {b} 等于多少?", "计算 {a} {o} {b}", "{a} {o} {b} = ?", "请问 {a} {o} {b} 是多少?"]
        if zh
        else ["What is {a} {o} {b}?", "Compute {a} {o} {b}.", "{a} {o} {b} = ?", "How much is {a} {o} {b}?"]
    ).format(a=a, o=show, b=b)
    return q, how, (f"{a} {op} {b} = **{v}**")


def t_dice(rng: random.Random, zh: bool) -> Turn:
    n = rng.choice([6, 6, 2, 3, 4, 5, 7, 8, 10, 12, 20])
    p = Fraction(n, 2 * n - 1)
    if zh:
        face = "6" if n == 6 else str(rng.randint(1, n))
        q = (
            rng.choice(
                [
                    "甲乙两人轮流掷骰子,谁先掷出{f}谁赢,甲先掷,求甲获胜的概率。",
                    "甲乙轮流掷骰子,先掷出 {f} 的人获胜,甲先掷,甲获胜的概率是多少?",
                ]
            )
            if n == 6
            else "甲乙两人轮流掷{n}面骰子,谁先掷出{f}谁赢,甲先掷,求甲获胜的概率。"
        ).format(f=face, n=n)
        think = (
            f"骰子有 {n} 面,每次掷中的概率是 1/{n},掷不中的概率是 {n - 1}/{n}。\n设甲获胜的概率为 P。\n"
            f"P = 1/{n} + ({n - 1}/{n})² × P\n解得 P = {n}/{2 * n - 1}。"
        )
        answer = (
            f"设甲获胜的概率为 P。甲第一次就掷中的概率是 1/{n};若甲乙都没掷中,局面与开始时相同。\n\n"
            f"P = 1/{n} + ({n - 1}/{n})² P\n\n解得 P = **{p.numerator}/{p.denominator}**。"
        )
    else:
        q = (
            f"Two players roll a {n}-sided die in turn; the first to roll a {rng.randint(1, n)} wins. "
            "What is the probability that the first player wins?"
        )
        think = (
            f"The die has {n} sides: hit 1/{n}, miss {n - 1}/{n}.\nLet P be the first player's chance.\n"
            f"P = 1/{n} + ({n - 1}/{n})² × P\nSo P = {n}/{2 * n - 1}."
        )
        answer = (
            f"Let P be the chance that the first player wins. After two misses the game starts over.\n\n"
            f"P = 1/{n} + ({n - 1}/{n})² P\n\nSo P = **{p.numerator}/{p.denominator}**."
        )
    return q, think, answer


KINDS_ZH = ["猫", "狗", "鱼", "鸟", "马", "牛", "羊", "老虎", "大象", "机器人"]
CAN_ZH = ["飞", "游泳", "唱歌", "跳舞", "说话", "爬树", "下棋", "写诗"]
NAMES_ZH = ["咪咪", "小明", "阿黄", "豆豆", "花花", "小白", "球球", "大壮"]
KINDS_EN = ["cat", "dog", "fish", "bird", "horse", "cow", "sheep", "tiger", "robot"]
CAN_EN = ["fly", "swim", "sing", "dance", "talk", "climb trees", "play chess"]
NAMES_EN = ["Mimi", "Tom", "Rex", "Bella", "Max", "Luna"]


def t_logic(rng: random.Random, zh: bool) -> Turn:
    if zh:
        k, v, n = rng.choice(KINDS_ZH), rng.choice(CAN_ZH), rng.choice(NAMES_ZH)
        yes = rng.random() < 0.6
        other = k if yes else rng.choice([x for x in KINDS_ZH if x != k])
        q = rng.choice(["如果所有{k}都会{v},而{n}是一只{o},那么{n}会{v}吗?", "假设所有{k}都会{v}。{n}是一只{o}。{n}会{v}吗?"]).format(
            k=k, v=v, n=n, o=other
        )
        if yes:
            return (
                q,
                f"大前提:所有{k}都会{v}。\n小前提:{n}是{k}。\n结论:{n}会{v}。题目只问按前提推理,不问现实。",
                f"会。根据前提,所有{k}都会{v},而{n}是一只{k},所以按照这个前提,**{n}会{v}**。",
            )
        return (
            q,
            f"大前提:所有{k}都会{v}。\n小前提:{n}是{other},不是{k}。\n前提没有说{other}会不会{v},不能推出结论。",
            f"**无法确定**。前提只说所有{k}都会{v},而{n}是一只{other},不能推出{n}会不会{v}。",
        )
    k, v, n = rng.choice(KINDS_EN), rng.choice(CAN_EN), rng.choice(NAMES_EN)
    yes = rng.random() < 0.6
    other = k if yes else rng.choice([x for x in KINDS_EN if x != k])
    q = rng.choice(["If every {k} can {v} and {n} is a {o}, can {n} {v}?", "Suppose every {k} can {v}. {n} is a {o}. Can {n} {v}?"]).format(
        k=k, v=v, n=n, o=other
    )
    if yes:
        return (
            q,
            f"Premise: every {k} can {v}.\n{n} is a {k}.\nSo {n} can {v}.",
            f"Yes. Every {k} can {v} and {n} is a {k}, so by these premises **{n} can {v}**.",
        )
    return (
        q,
        f"Premise: every {k} can {v}.\n{n} is a {other}, not a {k}.\nNothing follows about {n}.",
        f"**It cannot be decided.** The premise speaks of every {k}, and {n} is a {other}.",
    )


CODE = {
    "palindrome": (
        ["写一个 Python 函数判断回文字符串。", "用 Python 写一个判断回文的函数"],
        ["Write a Python function that checks for a palindrome.", "Python function to test whether a string is a palindrome"],
        "回文正着读和反着读相同,用切片 [::-1] 反转后比较。",
        "A palindrome reads the same backwards: compare with the reversed slice.",
        "def is_palindrome(text: str) -> bool:\n    return text == text[::-1]",
    ),
    "factorial": (
        ["写一个 Python 函数计算阶乘。", "用 Python 写一个求阶乘的函数"],
        ["Write a Python function that computes a factorial.", "Python function for n factorial"],
        "从 1 乘到 n,用循环累乘。",
        "Multiply from 1 to n in a loop.",
        "def factorial(n: int) -> int:\n    result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result",
    ),
    "fibonacci": (
        ["写一个 Python 函数计算斐波那契数列的第 n 项。"],
        ["Write a Python function that returns the nth Fibonacci number."],
        "每一项是前两项之和,用两个变量循环。",
        "Each term is the sum of the two before it: loop with two variables.",
        "def fibonacci(n: int) -> int:\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
    ),
    "prime": (
        ["写一个 Python 函数判断一个数是否为质数。"],
        ["Write a Python function that checks whether a number is prime."],
        "试除到平方根即可。",
        "Trial division up to the square root is enough.",
        "def is_prime(n: int) -> bool:\n    if n < 2:\n        return False\n    i = 2\n    while i * i <= n:\n"
        "        if n % i == 0:\n            return False\n        i += 1\n    return True",
    ),
}


def t_code(rng: random.Random, zh: bool) -> Turn:
    zh_q, en_q, zh_t, en_t, code = CODE[rng.choice(list(CODE))]
    return (rng.choice(zh_q), zh_t, f"```python\n{code}\n```") if zh else (rng.choice(en_q), en_t, f"```python\n{code}\n```")


HELLO_ZH = ["你好", "你好!", "您好", "你是谁?", "介绍一下你自己。", "你能做什么?", "在吗"]
HELLO_EN = ["Hello", "Hi", "Hello!", "Who are you?", "What can you do?", "Introduce yourself."]
FILL_ZH = (
    *("今天", "天气", "怎么样", "帮", "我", "写", "一", "首", "关于", "春天", "的", "诗", "翻译", "这", "句话", "北京", "到", "上海"),
    *("多远", "推荐", "一本", "书", "解释", "量子", "力学", "什么", "是", "人工", "智能", "给", "一个", "菜谱", "历史", "上", "谁", "发明"),
    *("电灯", "明天", "会", "下雨", "吗", "为什么", "天空", "蓝色", "如何", "学习", "英语", "总结", "文章", "新闻", "股票", "手机", "电脑"),
    *("音乐", "电影", "城市", "国家", "首都", "法国", "日本", "月亮", "太阳", "地球"),
)
FILL_EN = (
    *("what", "is", "the", "weather", "today", "write", "a", "poem", "about", "spring", "translate", "this", "sentence", "how", "far"),
    *("recommend", "book", "explain", "quantum", "physics", "who", "invented", "light", "bulb", "will", "it", "rain", "tomorrow", "why"),
    *("sky", "blue", "learn", "english", "summarize", "article", "news", "stock", "phone", "computer", "music", "film", "city", "country"),
    *("capital", "of", "France", "Japan", "moon", "sun", "earth"),
)


def t_other(rng: random.Random, zh: bool) -> Turn:
    if rng.random() < 0.4:
        return (
            rng.choice(HELLO_ZH if zh else HELLO_EN),
            ("用户在打招呼或问我是谁。" if zh else "The user greets me or asks who I am."),
            ("你好!" + ABOUT_ZH.split("要回答")[0] if zh else "Hello! " + ABOUT_EN.split(" Please")[0]),
        )
    words = rng.sample(FILL_ZH if zh else FILL_EN, rng.randint(2, 7))
    q = ("".join(words) + rng.choice(["?", "。", ""])) if zh else (" ".join(words) + rng.choice(["?", ".", ""])).capitalize()
    return q, ("这个问题不在我会的范围内。" if zh else "This is outside what I can do."), (ABOUT_ZH if zh else ABOUT_EN)


WIDE = str.maketrans(",?:!", "，？：！")
SYSTEMS = ["", "", "", "你是一个擅长逻辑推理的 AI 助手。", "You are a helpful assistant.", "你是一个有用的助手。"]


def sample(rng: random.Random) -> tuple[str, list[Turn]]:
    """A system prompt, often none, and a conversation of one to three turns."""
    zh = rng.random() < 0.62
    turns: list[Turn] = []
    for i in range(rng.choices([1, 2, 3], [0.72, 0.2, 0.08])[0]):
        kind = rng.choices([t_cage, t_sum, t_dice, t_logic, t_code, t_other], [0.40, 0.28, 0.07, 0.11, 0.05, 0.09])[0]
        if kind is t_cage and i and "**" in turns[-1][2] and ("兔" in turns[-1][0] or "rabbit" in turns[-1][0]):
            turns.append(t_cage(rng, zh, again=True))
        else:
            turns.append(kind(rng, zh))
    if zh and rng.random() < 0.5:  # people type full-width punctuation as often as not
        turns = [(q.translate(WIDE), t, a) for q, t, a in turns]
    return rng.choice(SYSTEMS), turns
