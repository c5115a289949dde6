"""Headless Chromium through its DevTools protocol, on a pipe: no driver, no network."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# What WCAG 2.2 AA and axe's best practice ask for, and how much it matters.
AXE = """axe.run({resultTypes: ["violations"]}).then((found) => found.violations
  .filter((v) => %s.includes(v.impact))
  .map((v) => `${v.id} (${v.impact}): ${v.nodes.map((n) => n.html).join(" | ")}`))"""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    given = os.environ.get("PARAGON_CHROMIUM")
    return given or next((p for n in NAMES if (p := shutil.which(n))), None)


def axe_source() -> str:
    """The source of axe-core, which comes in a package of its own."""
    package = pytest.importorskip("axe_playwright_python", reason="axe is not there")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def faults(run: Callable[[str], Any], least: str = "moderate") -> list[str]:
    """What axe-core finds on the page in which `run` evaluates JavaScript.

    Args:
        run: Evaluates a script, promises too.
        least: How much a fault must matter: minor, moderate, serious or critical.
    """
    impacts = ["minor", "moderate", "serious", "critical"]
    if run("typeof axe") != "object":
        run(axe_source() + "; undefined")
    return run(AXE % json.dumps(impacts[impacts.index(least) :]))


def unreached(run: Callable[[str], Any], press: Callable[[str], Any]) -> list[str]:
    """What the Tab key does not reach, or reaches without an outline that is seen.

    Args:
        run: Evaluates JavaScript on the page.
        press: Presses a key by its name.
    """
    wanted = """[...document.querySelectorAll(
      'a[href], button, input, select, textarea, summary, [tabindex]')].filter(
      (e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility())"""
    here = """(() => {
      const e = document.activeElement, style = getComputedStyle(e);
      if (style.outlineStyle !== "none" || style.boxShadow !== "none") e.reached = true;
    })()"""
    run("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(run(f"{wanted}.length") + 1):
        press("Tab")
        run(here)
    return run(f"{wanted}.filter((e) => !e.reached).map((e) => e.outerHTML)")


class Page:
    """One tab; `problems` fills with console errors, exceptions and requests."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write = read, write
        self.number, self.buffer = 0, b""
        self.problems: list[str] = []
        self.session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and waits for its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.read, 1 << 20)
            assert part, "the browser has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        name, found = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            self.problems.append(str(found["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and found["type"] in (
            "error",
            "assert",
        ):
            self.problems.append(str(found["args"]))
        elif name == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.problems.append(found["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            url = found["request"]["url"]
            if not url.startswith(("data:", "file:", "about:")):
                self.problems.append(f"request to {url}")

    def open(self, file: Path) -> None:
        """Opens a file and waits until its pictures are there."""
        self.send("Page.navigate", url=file.resolve().as_uri())
        self.run(
            """new Promise((done) => {
              const ready = async () => {
                await Promise.all([...document.images].map((i) => i.decode()));
                done(true);
              };
              if (document.readyState === "complete") ready();
              else addEventListener("load", ready);
            })"""
        )

    def run(self, script: str) -> Any:
        """Evaluates JavaScript, promises too; returns its value."""
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def theme(self, name: str) -> None:
        """Lets the system prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Sends a mouse event: mousePressed, mouseMoved, mouseReleased, mouseWheel."""
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        pressed = {} if kind == "mouseWheel" else button
        more = pressed | more
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Presses at `start`, moves and lets go at `end`."""
        self.mouse("mousePressed", *start)
        self.mouse("mouseMoved", *end)
        self.mouse("mouseReleased", *end)

    def drag_handle(self) -> str:
        """Drags the handle to a quarter of a page's viewer; returns what it reads."""
        left, top, width, height = self.box("#viewer")
        middle = top + height / 2
        self.drag((left + width / 2, middle), (left + width / 4, middle))
        return self.handle()

    def handle(self) -> str:
        """Returns the position of the viewer's handle in percent."""
        handle = "document.getElementById('handle')"
        return self.run(f"{handle}.getAttribute('aria-valuenow')")

    def key(self, key: str, code: int = 0) -> None:
        """Types a key by its DOM name."""
        code = code or {"Tab": 9}.get(key, 0)
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element, in pixels of the window."""
        return tuple(
            self.run(
                f"(({{left, top, width, height}}) => [left, top, width, height])"
                f"(document.querySelector({json.dumps(selector)})"
                ".getBoundingClientRect())"
            )
        )


@contextlib.contextmanager
def browser(folder: Path, width: int = 1200, height: int = 900) -> Iterator[Page]:
    """Yields a page of a browser that ends with the context; skips without one."""
    found = find_browser()
    if found is None:
        pytest.skip("no Chromium here; install Debian's, or name it: PARAGON_CHROMIUM")
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    flags = f"--headless=new --no-sandbox --disable-gpu --window-size={width},{height}"
    command = [found, *flags.split(), "--remote-debugging-pipe"]
    command += ["--no-first-run", "--disable-dev-shm-usage", "--disable-extensions"]
    command += [f"--user-data-dir={folder}", "about:blank"]
    # It reads from descriptor 3 and writes to 4.
    shell = f"exec {{c}} 3<&{to_browser} 4>&{from_browser}"
    quoted = " ".join(f"'{part}'" for part in command)
    process = subprocess.Popen(
        ["bash", "-c", shell.format(c=quoted)],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(read, write)
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)
