"""A person's browser, as far as HTTP goes: it keeps cookies, signs in, sends the page's forms."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import count
from typing import Any

import httpx

from receiver.web.page.sessions import Sessions
from tests.support.demo import Demo
from tests.support.receiver_process import KEY, ReceiverProcess

PASSWORD = "correct horse battery staple"
PAGE = {"RECEIVER_ADMIN_PASSWORD": PASSWORD, "RECEIVER_PUBLIC_URL": "http://hooks.example.com"}
COOKIE = "receiver-session"
BLOCKS = frozenset({"dd", "div", "dt", "h1", "h2", "h3", "li", "option", "p", "pre", "td", "th"})
_visitors = count()


class Visitor(httpx.Client):
    """Asks a receiver's page; follows no redirect by itself."""

    def __init__(self, receiver: ReceiverProcess | Demo, **kwargs: Any) -> None:
        super().__init__(base_url=receiver.url, trust_env=False, timeout=20, **kwargs)
        number = next(_visitors)  # each at an address of its own, as behind a proxy
        self.headers["X-Forwarded-For"] = f"198.18.{number // 256}.{number % 256}"

    def sign_in(self, password: str = PASSWORD, path: str = "/login") -> httpx.Response:
        """Send the login form as it stands, with a password."""
        return self.enter(self.read(path), password)

    def enter(self, shown: "Reading", password: str = PASSWORD) -> httpx.Response:
        """Send the login form of this page."""
        ((action, form),) = shown.forms
        return self.post(action, data={**form, "password": password})

    def read(self, path: str, status: int = 200) -> "Reading":
        """Get a page and read it."""
        answer = self.get(path)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return Reading(answer.text)

    def do(self, action: str, **fields: str) -> httpx.Response:
        """Send a form with this session's own token, confirmed."""
        csrf = self.read("/").form("/logout")["csrf"]
        return self.post(f"/do/{action}", data={"csrf": csrf, "confirmed": "yes", **fields})

    def confirm(self, action: str, form: dict[str, str]) -> httpx.Response:
        """Send a form, and confirm it on the page that asks."""
        asked = self.post(action, data=form)
        assert asked.status_code == 200, (asked.status_code, asked.text)
        return self.post(action, data=Reading(asked.text).form(action, confirmed="yes"))


class Reading(HTMLParser):
    """A page as a browser reads it: its text, its elements, its forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; a hidden field belongs to the form it stands in."""
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag in BLOCKS:
            self._texts.append(" ")
        if tag == "form":
            self.forms.append((found.get("action") or "", {}))
        if tag == "input" and found.get("name") and self.forms:
            self.forms[-1][1][str(found["name"])] = found.get("value") or ""

    def handle_data(self, data: str) -> None:
        """Note text."""
        self._texts.append(data)

    @property
    def text(self) -> str:
        """All that is to be read, on one line."""
        return " ".join("".join(self._texts).split())

    def form(self, action: str, **fields: str) -> dict[str, str]:
        """The fields of the form that does this, with these values among them."""
        for found, held in self.forms:
            if found == action and fields.items() <= held.items():
                return held
        raise AssertionError(f"no form {action} {fields} in: {self.forms}")

    def links(self) -> list[str]:
        """Where its links lead."""
        return [
            found["href"] or "" for tag, found in self.elements if tag == "a" and "href" in found
        ]


@contextmanager
def visitor(receiver: ReceiverProcess | Demo, password: str = PASSWORD) -> Iterator[Visitor]:
    """A visitor who is signed in."""
    with Visitor(receiver) as person:
        answer = person.sign_in(password)
        assert answer.status_code == 303, answer.text
        yield person


def cookie(*, key: str = KEY, password: str = PASSWORD, age: int = 0) -> str:
    """A session's cookie, made `age` seconds ago."""
    return Sessions([key], password).begin(int(time.time()) - age)[0]
