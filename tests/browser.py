"""A real browser (Debian's chromium, headless) that opens a page and tells what became of it.

It is spoken to over two pipes in its DevTools protocol, so no port is open and no driver needed. Every wait is bounded.
"""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = "chromium"
_PATIENCE = 90.0

_PROBE = """JSON.stringify({
  text: document.body.innerText,
  title: document.title,
  width: document.documentElement.scrollWidth, window: window.innerWidth,
  plots: Array.from(document.querySelectorAll('svg.plot')).map(one => {
    const box = one.getBoundingClientRect();
    return {label: one.getAttribute('aria-label'), width: box.width, height: box.height,
            shapes: one.querySelectorAll('path,use').length,
            texts: Array.from(one.querySelectorAll('text')).map(text => text.textContent),
            ink: getComputedStyle(one.querySelector('text') || one).fill};
  }),
  tables: document.querySelectorAll('table').length,
})"""


@dataclass(frozen=True)
class Look:
    """What a browser saw.

    Attributes:
        problems: What it wrote on its console, and exceptions.
        requests: URLs that it asked for beside the page itself.
        found: Text, title, plots and tables of the page as it was laid out.
        picture: A PNG of the whole page.
    """

    problems: list[str]
    requests: list[str]
    found: dict[str, Any]
    picture: bytes

    def colors(self) -> int:
        """How many colours the picture has; a blank one has one."""
        from PIL import Image

        with Image.open(io.BytesIO(self.picture)) as image:
            return len(image.convert("RGB").getcolors(maxcolors=1 << 24) or ())


def look(page: Path, folder: Path, *, dark: bool = False, width: int = 1100) -> Look:
    """Open a page in a fresh browser and look at it."""
    with _Browser(folder) as browser:
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.ask(f"{domain}.enable", session)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.ask("Emulation.setEmulatedMedia", session, features=[scheme])
        browser.ask(
            "Emulation.setDeviceMetricsOverride", session, width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        browser.ask("Page.navigate", session, url=page.as_uri())
        browser.wait_for("Page.loadEventFired")
        value = browser.ask("Runtime.evaluate", session, expression=_PROBE, returnByValue=True)["result"]["value"]
        found = json.loads(value)
        size = browser.ask("Page.getLayoutMetrics", session)["cssContentSize"]
        shot = browser.ask(
            "Page.captureScreenshot", session, format="png", captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": width, "height": min(size["height"], 12_000), "scale": 1},
        )  # fmt: skip
        told = [event for event in browser.events if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled")]
        told += [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
        asked = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return Look(
            problems=[json.dumps(event["params"]) for event in told],
            requests=[url for url in asked if url != page.as_uri() and not url.startswith("data:")],
            found=found,
            picture=base64.b64decode(shot["data"]),
        )


def _moved(descriptor: int) -> int:
    """The same file under a number from 20 on."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return moved


class _Browser:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "browser"
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._rest = b""

    def __enter__(self) -> _Browser:
        self.folder.mkdir(parents=True, exist_ok=True)
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Out of the way of 3 and 4, which the browser is given.
        theirs_in, theirs_out = _moved(theirs_in), _moved(theirs_out)
        self._in, self._out = ours_in, ours_out
        command = (
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--mute-audio",
            "--hide-scrollbars", f"--user-data-dir={self.folder}", "--remote-debugging-pipe",
        )  # fmt: skip
        # The browser reads from descriptor 3 and writes to 4.
        redirect = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-'
        with (self.folder.parent / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", redirect, "browser", *command],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self.folder)},
            )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(self, *failed: object) -> None:
        try:
            if self._process.poll() is None:
                os.write(self._out, b'{"id":999999,"method":"Browser.close"}\0')
            self._process.wait(20)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait(20)
        finally:
            os.close(self._in)
            os.close(self._out)
            shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._until(lambda told: told.get("id") == self._number, method).get("result", {})

    def wait_for(self, event: str) -> None:
        if not any(told["method"] == event for told in self.events):
            self._until(lambda told: told.get("method") == event, event)

    def _until(self, wanted: Any, what: str) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while True:
            while b"\0" in self._rest:
                raw, _, self._rest = self._rest.partition(b"\0")
                told: dict[str, Any] = json.loads(raw)
                if "method" in told:
                    self.events.append(told)
                assert "error" not in told, f"{what}: {told}"
                if wanted(told):
                    return told
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the browser did not answer {what}"
            data = os.read(self._in, 1 << 20)
            assert data, f"the browser went away at {what}"
            self._rest += data
