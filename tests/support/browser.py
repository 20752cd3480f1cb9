"""A real browser, headless: Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import websocket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
# root has no sandbox in a container, and little /dev/shm; nothing is asked of any network.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


def command() -> str | None:
    """The browser's program; None if there is none (Debian: `apt-get install chromium`)."""
    return next((found for name in COMMANDS if (found := shutil.which(name))), None)


class Page:
    """A tab.

    Args:
        socket: of its DevTools.

    Attributes:
        complaints: what the browser said of the page: errors, exceptions, refused content.

    """

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._number = 0
        self._events: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call of the protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._socket.recv())
        if method := answer.get("method", ""):
            self._events.append(method)
        if method == "Log.entryAdded":
            self.complaints.append(answer["params"]["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(answer["params"]["exceptionDetails"]))
        return answer

    def open(self, url: str) -> None:
        """Load a page from anew, also if it is another place of the same one."""
        for step in ("about:blank", url):
            self._events.clear()
            self.call("Page.navigate", url=step)
            while "Page.loadEventFired" not in self._events:
                self._receive()

    def settle(self) -> None:
        """Wait until the page that a click or a key leads to is there and quiet."""
        deadline = time.monotonic() + 60
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < deadline, "the page is never quiet"
            with contextlib.suppress(AssertionError):  # its context went while it was asked
                quiet = quiet + 1 if self.run("document.readyState") == "complete" else 0
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression; what it promises is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, text: str) -> None:
        """Press a key: a character, or one that has a name, such as `Escape`."""
        code = {"Escape": 27, "Enter": 13}.get(text, 0)
        down = {"type": "keyDown", "key": text, "windowsVirtualKeyCode": code}
        if len(text) == 1 or text == "Enter":
            down["text"] = text if len(text) == 1 else "\r"
        self.call("Input.dispatchKeyEvent", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=text, windowsVirtualKeyCode=code)

    def click(self, selector: str, across: float = 0.5) -> None:
        """Click on the first element that fits and can be seen; scrolls to it.

        Args:
            selector: of CSS.
            across: where in its width, from 0 to 1.

        """
        place = self.run(
            f"(() => {{ const e = [...document.querySelectorAll({json.dumps(selector)})]"
            ".find((one) => one.checkVisibility());"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width * {across}, r.y + r.height / 2]; }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=place[0], y=place[1], button="left", clickCount=1,
            )  # fmt: skip

    def scripts(self, *, allowed: bool) -> None:
        """Whether pages that are opened from now on may run scripts. `run` works anyway."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """The size of the window, and the scheme that the user prefers."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def screenshot(self, file: Path) -> None:
        """What the window shows, as PNG."""
        time.sleep(0.2)  # until it is painted
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def texts(page: Page, selector: str) -> list[str]:
    """The text of the elements that can be seen."""
    found: list[str] = page.run(
        f"[...document.querySelectorAll({selector!r})]"
        ".filter((e) => e.checkVisibility()).map((e) => e.textContent)"
    )
    return found


@contextlib.contextmanager
def opened(flags: Sequence[str] = ()) -> Iterator[Page]:
    """A browser of its own with one tab; ended with all its processes."""
    program = command()
    assert program is not None, "no Chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [program, *FLAGS, *flags, f"--user-data-dir={home}/profile", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
        )
        try:
            port = _port(Path(home, "profile", "DevToolsActivePort"), process)
            socket = websocket.create_connection(_tab(port), timeout=60)
            try:
                yield Page(socket)
            finally:
                with contextlib.suppress(Exception):
                    socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
                socket.close()
        finally:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(file.read_text().splitlines()[0])
        time.sleep(0.05)
    raise AssertionError("the browser did not open its DevTools")


def _tab(port: int) -> str:
    from urllib.request import urlopen

    end = time.monotonic() + 60
    while time.monotonic() < end:
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=60) as answer:
            for target in json.load(answer):
                if target["type"] == "page":
                    return str(target["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("the browser has no tab")
