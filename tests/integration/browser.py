"""A headless Chromium, spoken to by its DevTools protocol over Tornado's WebSocket client."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE_S = 60.0
_T = TypeVar("_T")


def program() -> str | None:
    """The browser of this machine, if it has one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One tab. `login` is (user, password), given when the server asks; use as a context manager.

    `messages` are what pages wrote to the console, and what they did that their policy forbids.
    """

    def __init__(self, folder: Path, login: tuple[str, str], width: int = 1280) -> None:
        self._login = login
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.messages: list[str] = []
        self.loaded = 0
        self._port_file = folder / "DevToolsActivePort"
        self.process = subprocess.Popen(
            [
                program() or "",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                f"--window-size={width},900",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        self._run(self._connect())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    # ---- what a test does ---------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Goes there, and waits until it is loaded."""
        before = self.loaded
        self.tell("Page.navigate", url=url)
        self.wait(lambda: self.loaded > before, f"{url} to load")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.tell(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """What is to be read there; empty if there is no such element."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        """Presses and lets go of the mouse in the middle of the first such element."""
        place = self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " if (!e) return null; e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const b = e.getClientRects()[0];"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        assert place, f"there is no {selector}"
        for kind in ("mousePressed", "mouseReleased"):
            self.tell(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def wait(self, holds: Any, what: str) -> None:
        """Until it holds: a function, or a JavaScript expression."""
        deadline = time.monotonic() + PATIENCE_S
        while not (self.ask(holds) if isinstance(holds, str) else holds()):
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self._run(asyncio.sleep(0.05))

    def picture(self, path: Path, width: int, height: int = 0, *, dark: bool = False) -> None:
        """A picture of the page at this width, all of it unless a height is given."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height or 900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.tell("Emulation.setScrollbarsHidden", hidden=True)
        self._run(asyncio.sleep(0.5))
        shot = self.tell("Page.captureScreenshot", captureBeyondViewport=not height)
        path.write_bytes(base64.b64decode(shot["data"]))

    # ---- the protocol -------------------------------------------------------------------------

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command, and its result."""
        return self._run(self._tell(method, parameters))

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE_S))

    async def _tell(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = self._loop.create_future()
        message = {"id": self._number, "method": method, "params": parameters}
        await self._socket.write_message(json.dumps(message))
        found: dict[str, Any] = await answer
        return found

    async def _connect(self) -> None:
        while not self._port_file.exists() or not self._port_file.read_text().strip():
            assert self.process.poll() is None, "the browser does not start"
            await asyncio.sleep(0.05)
        port = self._port_file.read_text().split()[0]
        found = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json/list")
        tab = next(each for each in json.loads(found.body) if each["type"] == "page")
        self._socket: WebSocketClientConnection = await websocket_connect(
            tab["webSocketDebuggerUrl"], max_message_size=64 * 2**20
        )
        self._listener = asyncio.ensure_future(self._listen())
        for domain in ("Page", "Runtime", "Log"):
            await self._tell(f"{domain}.enable", {})
        await self._tell("Fetch.enable", {"handleAuthRequests": True})

    async def _listen(self) -> None:
        while (message := await self._socket.read_message()) is not None:
            told = json.loads(message)
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told.get("result", {}))
            else:
                self._heard(told["method"], told["params"])

    def _heard(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.loaded += 1
        elif method == "Fetch.requestPaused":
            self._say("Fetch.continueRequest", requestId=told["requestId"])
        elif method == "Fetch.authRequired":
            user, password = self._login
            login = {"response": "ProvideCredentials", "username": user, "password": password}
            self._say(
                "Fetch.continueWithAuth", requestId=told["requestId"], authChallengeResponse=login
            )
        elif method == "Log.entryAdded":
            self.messages.append(told["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(told["exceptionDetails"]))
        elif method == "Page.javascriptDialogOpening":
            self.messages.append(f"dialog: {told['message']}")
            self._say("Page.handleJavaScriptDialog", accept=False)

    def _say(self, method: str, **parameters: Any) -> None:
        """A command whose result nobody waits for."""
        self._number += 1
        self._answers[self._number] = self._loop.create_future()
        message = {"id": self._number, "method": method, "params": parameters}
        asyncio.ensure_future(self._socket.write_message(json.dumps(message)))  # noqa: RUF006
