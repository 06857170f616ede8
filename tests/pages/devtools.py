"""A page in Debian's Chromium over the DevTools protocol: any width, console, pictures, values."""

import asyncio
import base64
import json
import re
import subprocess
import tempfile
from contextlib import asynccontextmanager

import aiohttp
from browser import QUIET, chromium


class Page:
    """One tab; `console` collects errors, warnings and messages."""

    def __init__(self, socket):
        self.socket, self.console, self.answers, self.count = socket, [], {}, 0
        self.reader = asyncio.ensure_future(self.read())

    async def read(self):
        async for message in self.socket:
            found = json.loads(message.data)
            if "id" in found:
                self.answers[found["id"]].set_result(found)
            elif found["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown",
                                     "Log.entryAdded"):
                self.console.append(json.dumps(found["params"]))

    async def call(self, method, **params):
        self.count += 1
        self.answers[self.count] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": self.count, "method": method, "params": params})
        return (await asyncio.wait_for(self.answers[self.count], 60))["result"]

    async def evaluate(self, expression):
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                                awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def resize(self, width, height, scale=1, dark=False):
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                        deviceScaleFactor=scale, mobile=width < 600)
        await self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    async def screenshot(self, path, whole=True):
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def browser_page(address):
    """Open an address in a new browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [chromium(), *QUIET, f"--user-data-dir={profile}", "--remote-debugging-port=0",
             "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            port = None
            while port is None:
                line = process.stderr.readline()
                assert line, "chromium ended"
                found = re.search(r"DevTools listening on ws://[^:]+:(\d+)/", line)
                port = found and found[1]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    tab = next(tab for tab in await answer.json() if tab["type"] == "page")
                where = tab["webSocketDebuggerUrl"]
                async with session.ws_connect(where, max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Runtime", "Log", "Page"):
                        await page.call(f"{domain}.enable")
                    await page.call("Page.navigate", url=address)
                    yield page
                    page.reader.cancel()
        finally:
            process.kill()
            process.wait()
