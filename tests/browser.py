"""A headless Chromium through the WebDriver protocol, with nothing but the standard library.

Enters: nothing.  Leaves: `Browser`, or None where chromium and chromedriver are not installed.
The protocol is that of https://www.w3.org/TR/webdriver2/; pages are files on disk and nothing is fetched.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "needs chromium and chromedriver (on Debian: apt install chromium chromium-driver)"
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Down": "\ue015", "Up": "\ue013", "Right": "\ue014"}
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="gradc-chromium-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._url = f"http://127.0.0.1:{port}"
        try:
            self._wait()
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(Exception):
            self._ask("DELETE", "")
        self._driver.terminate()
        self._driver.wait(60)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _wait(self) -> None:
        for _ in range(1200):  # a minute: the machine may be busy
            with suppress(OSError):
                urllib.request.urlopen(f"{self._url}/status", timeout=5).close()
                return
            time.sleep(0.05)
        raise RuntimeError("chromedriver does not answer")

    def _start(self) -> None:
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={self._profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/session/{session['sessionId']}"

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    _ask = _send

    # -- what a person does ------------------------------------------------------------------------------------------
    def open(self, path: Path) -> None:
        self._ask("POST", "/url", {"url": path.as_uri()})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, on: bool = True) -> None:
        value = "dark" if on else "light"
        self.command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": value}]})

    def command(self, name: str, parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a JavaScript function returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> dict[str, str]:
        found: dict[str, str] = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return found

    def hover(self, selector: str) -> None:
        self._pointer([{"type": "pointerMove", "duration": 0, "origin": self.find(selector), "x": 0, "y": 0}])

    def away(self) -> None:
        self._pointer([{"type": "pointerMove", "duration": 0, "origin": "viewport", "x": 2, "y": 2}])

    def click(self, selector: str) -> None:
        move = {"type": "pointerMove", "duration": 0, "origin": self.find(selector), "x": 0, "y": 0}
        self._pointer([move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}])

    def press(self, *names: str) -> None:
        steps = [{"type": kind, "value": KEYS.get(n, n)} for n in names for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def _pointer(self, steps: list[dict[str, Any]]) -> None:
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._ask("POST", "/actions", {"actions": [mouse]})

    # -- what a person sees ------------------------------------------------------------------------------------------
    def screenshot(self) -> bytes:
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def paper(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self._ask("POST", "/print", {"background": True, "shrinkToFit": True}))

    def complaints(self) -> list[str]:
        """What the console says of errors and warnings since the last question."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
