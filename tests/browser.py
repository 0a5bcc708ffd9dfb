"""A headless Chromium, driven over the pipe of its DevTools protocol: what a page does there, and what it fetches."""

import json
import os
import shutil
import subprocess
import tempfile
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page of a new Chromium, which ends with the block.

    Attributes:
        requests: the addresses that were asked for, in order; those of data stand for their kind.
        messages: what the page's console says, such as what its Content-Security-Policy refused.
    """

    def __enter__(self):
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")

        def at_3_and_4():  # where Chromium expects the pipe
            read, written = os.dup(to_browser), os.dup(from_browser)
            os.dup2(read, 3)
            os.dup2(written, 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *options, f"--user-data-dir={self._profile.name}", "about:blank"],
            preexec_fn=at_3_and_4,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._waiting, self._number, self._session = b"", 0, None
        self.requests, self.messages = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def call(self, method, **params):
        """The result of a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self):
        while b"\0" not in self._waiting:
            read = os.read(self._from, 1 << 20)
            if not read:
                raise RuntimeError("Chromium has ended")
            self._waiting += read
        first, _, self._waiting = self._waiting.partition(b"\0")
        answer = json.loads(first)
        if answer.get("method") == "Network.requestWillBeSent":
            self.requests.append(answer["params"]["request"]["url"].partition(";")[0])
        if answer.get("method") == "Log.entryAdded":
            self.messages.append(answer["params"]["entry"]["text"])
        return answer

    def open(self, url):
        """Load a page, and wait until it is there."""
        self.call("Page.navigate", url=url)
        while self.evaluate("document.readyState") != "complete":
            time.sleep(0.05)

    def open_on_phone(self, url, width):
        """Load a page on a screen of that width; nothing of it is wider."""
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self.open(url)
        assert self.evaluate("document.documentElement.scrollWidth") == width

    def evaluate(self, expression):
        """The value of an expression of JavaScript, of a promise that of its end."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")
