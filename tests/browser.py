"""A page in a real browser: headless Chromium, spoken to through a pipe (the Chrome DevTools Protocol)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; install the package chromium")


class Page:
    """An open page. `requests` are the addresses that it asked for, `errors` what its script complained about."""

    def __init__(self, to: int, back: int):
        self._to, self._back = os.fdopen(to, "wb", 0), os.fdopen(back, "rb", 0)
        self._count, self._rest = 0, b""
        self._session: dict[str, str] = {}
        self.requests: list[str] = []
        self.errors: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._back.fileno(), 1 << 16)
            assert more, "the browser has gone"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        answer = json.loads(text)
        if answer.get("method") == "Network.requestWillBeSent":
            self.requests.append(answer["params"]["request"]["url"])
        if answer.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(answer["params"]["exceptionDetails"]))
        if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
            self.errors.append(answer["params"]["entry"]["text"])
        return answer

    def open(self, path: Path | str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=path if isinstance(path, str) else path.as_uri())
        while self.js("document.readyState") != "complete":
            pass

    def js(self, expression: str) -> Any:
        """The value of an expression on the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key)


@contextmanager
def browse(path: Path | str, *flags: str) -> Iterator[Page]:
    """A file, or what stands at an address, open in a browser."""
    assert CHROMIUM is not None
    (theirs, to), (back, their_end) = os.pipe(), os.pipe()
    command = [
        "bash", "-c", f'exec "$0" "$@" 3<&{theirs} 4>&{their_end}', CHROMIUM, "--headless", "--no-sandbox",
        "--disable-gpu", "--remote-debugging-pipe", "--window-size=1366,850", "--force-prefers-reduced-motion", *flags,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, pass_fds=(theirs, their_end), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    os.close(their_end)
    page = Page(to, back)
    try:
        page.open(path)
        yield page
    finally:
        process.kill()
        process.wait()
        page._to.close()
        page._back.close()
