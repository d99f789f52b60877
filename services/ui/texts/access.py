"""The words around the login, in both languages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AccessWords:
    """One language. `{time}` is a duration as the page speaks it."""

    title: str
    lead: str
    name: str
    password: str
    enter: str
    wrong: str
    wrong_password: str
    wait: str
    left: str
    cookies: str
    help: str
    leave: str


EN = AccessWords(
    title="Log in",
    lead="Log in to ask. Nobody else sees what you write.",
    name="Name",
    password="Password",
    enter="Log in",
    wrong="This name and this password do not go together. Try again.",
    wrong_password="This is not the password. Try again.",
    wait="Too many wrong tries. Wait {time}, then try again.",
    left="You are logged out.",
    cookies="Your browser did not keep the login. Allow cookies for this page, then log in again.",
    help="No password yet? Ask whoever runs this Cloister.",
    leave="Log out",
)

ZH = AccessWords(
    title="登录",
    lead="登录后就可以提问，内容只有你看得到。",
    name="名字",
    password="密码",
    enter="登录",
    wrong="名字和密码对不上，请再试一次。",
    wrong_password="密码不对，请再试一次。",
    wait="输错太多次了。请等 {time} 再试。",
    left="你已退出登录。",
    cookies="浏览器没有记住登录状态。请允许这个页面使用 Cookie，再登录一次。",
    help="没有密码？请向管理 Cloister 的人要一个。",
    leave="退出登录",
)
