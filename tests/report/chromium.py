"""Headless Chromium, driven over a pipe by its DevTools protocol: no package is needed but the browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["PROGRAM", "Browser", "Tab"]

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
LOADED = "document.readyState === 'complete' ? done() : addEventListener('load', done)"
_LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for place, pipe in enumerate(pipes, start=3):  # the browser takes its commands from 3, and answers in 4
    os.dup2(pipe, place)
    os.set_inheritable(place, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {
    "Tab": 9,
    "Enter": 13,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
}
KEYS |= {"ArrowDown": 40}


class Browser:
    """A browser of its own profile."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="fedarchive-chromium-")
        commands, self._to = os.pipe()
        self._from, replies = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
        arguments = f"{flags} --remote-debugging-pipe --user-data-dir={self._profile} about:blank"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(commands), str(replies), PROGRAM, *arguments.split()],
            pass_fds=(commands, replies),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(replies)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call("Browser.close")
        self._process.wait(30)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Return the result of a command; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            reply = self._receive()
            if reply.get("id") == self._number:
                assert "error" not in reply, (method, reply["error"])
                result: dict[str, Any] = reply["result"]
                return result
            self.events.append(reply)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser is gone"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        reply: dict[str, Any] = json.loads(text)
        return reply

    def open(self, page: Path, *, dark: bool = False, width: int = 1280, height: int = 900) -> Tab:
        """Return a tab that has loaded a file."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            tab.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.events.clear()
        tab.call("Page.navigate", url=page.as_uri())
        tab.run(f"new Promise((done) => {LOADED})")
        tab.settle()
        return tab


class Tab:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a command."""
        return self._browser.call(method, self._session, **params)

    def run(self, expression: str, context: int | None = None) -> Any:
        """Return the value of an expression, waited for; the debugger evaluates it, whatever the policy."""
        where = {} if context is None else {"contextId": context}
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, **where
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait for two frames."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"Enter": "\r"}.get(key)
        facts: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **down, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def seconds(self, name: str = "ScriptDuration") -> float:
        """Return a figure of the browser's own clock."""
        found = self.call("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in found if one["name"] == name))

    def complaints(self) -> list[str]:
        """Return what the console has, errors and warnings of any kind, violations of the policy included."""
        self.settle()
        methods = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        return [json.dumps(event["params"])[:600] for event in mine if event["method"] in methods]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for; the page itself and data URLs ask nobody."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        urls = [e["params"]["request"]["url"] for e in mine if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")][1:]

    def violations(self, axe: Path) -> list[str]:
        """Return what axe finds, run in a world of its own, so that the policy of the page stays as it is."""
        frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        world = self.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
        self.call("Runtime.evaluate", expression=axe.read_text(encoding="utf-8"), contextId=world)
        told = "one.id + ': ' + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')"
        found = self.run(f"axe.run(document).then((all) => all.violations.map((one) => {told}))", world)
        return list(found)
