"""The demo in a real browser: a page is picked or uploaded, asked, and nothing leaves the machine.

Skipped where there is no gradio, no selenium, or no chromium with its driver.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import PIL.Image
import pytest

from florence_data import InputError, ShardWriter, recipes
from florence_train import PredictConfig, predict

WATCH = """
import runpy, sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", None):
        print("calls out:", host, file=sys.stderr, flush=True)
sys.addaudithook(watch)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a tool and tells of every address off this machine that Python connects to or looks up."""

needs_browser = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None
    or importlib.util.find_spec("selenium") is None
    or shutil.which("chromedriver") is None
    or shutil.which("chromium") is None,
    reason="needs gradio and selenium (pip), chromium and chromium-driver (the system's packages)",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo") / "shards"
    with ShardWriter(directory) as writer:
        for sample in recipes.synthetic(pages=3, seed=0):
            writer.write(sample)
    return directory


@pytest.fixture(scope="module")
def rows(shards: Path) -> list[dict[str, Any]]:
    """What prediction says to the questions of the first page."""
    out = shards.parent / "predictions.jsonl"
    predict(
        PredictConfig(
            model="tiny", data=str(shards), out=str(out), confidence=True, limit=1, workers=0
        )
    )
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module")
def served(repository: Path, shards: Path) -> Iterator[tuple[str, Path]]:
    """The demo's URL, and the file with what it writes to stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    errors = shards.parent / "stderr"
    command = [sys.executable, "-c", WATCH, repository / "tools/demo.py", "--model", "tiny"]
    command += ["--data", shards, "--port", port, "--max-upload-mb", 1, "--max-megapixels", 3]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port}/ "), errors.read_text()
        yield f"http://127.0.0.1:{port}/", errors
        process.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("window-size=1300,1300", f"user-data-dir={tmp_path_factory.mktemp('chromium')}"),
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


class Demo:
    """The demo's parts, by the ids that they have in the page."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.wait(lambda: len(self.all("#gallery button img")) == 3)

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def wait(self, until: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(
            self.browser, 20, ignored_exceptions=[StaleElementReferenceException]
        )
        return waiting.until(lambda _: until())

    def pick(self, position: int) -> None:
        self.all("#gallery button img")[position].click()
        self.wait(lambda: self.all("#view img") and not self.table())

    def upload(self, path: Path) -> None:
        if clear := self.all("#file button[aria-label='Clear']"):
            clear[0].click()
        [field] = self.wait(lambda: self.all("#file input[type=file]"))
        field.send_keys(str(path))

    def choose(self, dropdown: str, option: str) -> None:
        self.all(f"#{dropdown} input")[0].click()
        for item in self.wait(lambda: self.all("ul[role=listbox] li")):
            if item.get_attribute("aria-label") == option:
                item.click()
                return
        raise AssertionError(f"{dropdown} has no {option}")

    def write(self, question: str) -> None:
        [field] = self.all("#question input, #question textarea")
        self.browser.execute_script("arguments[0].select()", field)
        field.send_keys(question)

    def ask(self) -> list[str]:
        """Ask, and the line that the table has for it."""
        before = self.table()
        self.all("#ask")[0].click()
        self.wait(lambda: self.table() and self.table()[0] != (before or [[]])[0])
        return self.table()[0]

    def table(self) -> list[list[str]]:
        """The lines that are in view, the latest first."""
        lines = self.all("#table [role=row][data-index]")
        return [
            [cell.text for cell in line.find_elements("css selector", "[role=gridcell]")]
            for line in lines
        ]

    def value(self, part: str) -> str:
        [field] = self.all(f"#{part} input, #{part} textarea")
        return str(field.get_property("value"))

    def told(self, text: str) -> None:
        """Wait for a message with this text, and close all messages."""
        self.wait(lambda: any(text in toast.text for toast in self.all(".toast-body")))
        for close in self.all(".toast-close"):
            close.click()
        self.wait(lambda: not self.all(".toast-body"))

    def picture(self) -> PIL.Image.Image:
        """What the page view shows."""
        url = self.all("#view img")[0].get_attribute("src")
        data = self.browser.execute_async_script(
            "const done = arguments[1];"
            "fetch(arguments[0]).then(answer => answer.arrayBuffer())"
            ".then(bytes => done(Array.from(new Uint8Array(bytes))))",
            url,
        )
        return PIL.Image.open(io.BytesIO(bytes(data))).convert("RGB")


@pytest.fixture
def demo(browser: Any, served: tuple[str, Path]) -> Demo:
    return Demo(browser, served[0])


@needs_browser
def test_questions_on_a_page_of_the_set_are_answered_as_prediction_does(
    demo: Demo, rows: list[dict[str, Any]]
) -> None:
    demo.pick(0)
    lines = []
    for row in rows:
        demo.choose("known", row["question"])
        demo.wait(lambda row=row: demo.value("question") == row["question"])
        lines.append(demo.ask())
        assert demo.value("answer") == row["prediction"]
    assert len(rows) > 1
    for line, row in zip(lines, rows, strict=True):
        question, answer, confidence, seconds, _, expected = line
        assert (question, answer) == (row["question"], row["prediction"])
        assert confidence == f"{row['confidence']:.1%}"
        assert float(seconds) >= 0
        assert expected == " | ".join(row["answers"])
    assert [line[4] for line in lines] == ["encoded"] + ["reused"] * (len(rows) - 1)
    assert "features reused" in demo.value("facts")


@needs_browser
def test_an_uploaded_page_is_asked_and_its_regions_are_drawn(demo: Demo, tmp_path: Path) -> None:
    page = PIL.Image.new("RGB", (400, 600), "white")
    page.save(tmp_path / "white.png")
    demo.upload(tmp_path / "white.png")
    demo.wait(lambda: demo.all("#view img"))
    assert (np.asarray(demo.picture()) > 250).all()

    demo.choose("task", "region_proposal")
    demo.wait(lambda: not demo.all("#question input, #question textarea")[0].is_enabled())
    question, _, _, _, encoded, expected = demo.ask()
    assert (question, encoded, expected) == ("region_proposal", "encoded", "")
    demo.wait(lambda: (np.asarray(demo.picture()) < 200).any())

    demo.choose("task", "vqa")
    demo.wait(lambda: demo.all("#question input, #question textarea")[0].is_enabled())
    demo.write("<img src=x onerror=alert(1)> & <OCR>?")
    line = demo.ask()
    assert (line[0], line[4]) == ("<img src=x onerror=alert(1)> & <OCR>?", "reused")
    demo.wait(lambda: (np.asarray(demo.picture()) > 250).all())


@needs_browser
def test_what_does_not_work_is_told_in_a_sentence(
    demo: Demo, served: tuple[str, Path], tmp_path: Path
) -> None:
    demo.all("#ask")[0].click()
    demo.told("There is no page yet; upload one or pick one first.")

    (tmp_path / "text.png").write_text("no image")
    demo.upload(tmp_path / "text.png")
    demo.told("text.png: not an image that can be read (8 bytes; of no known format)")

    PIL.Image.new("L", (2000, 1501)).save(tmp_path / "large.png")
    demo.upload(tmp_path / "large.png")
    demo.told("large.png: 2000 x 1501 pixels; up to 3,000,000 pixels are accepted")

    (tmp_path / "heavy.png").write_bytes(bytes(2**20 + 1))
    demo.upload(tmp_path / "heavy.png")
    demo.told("exceed the maximum allowed size")

    demo.pick(1)
    demo.all("#ask")[0].click()
    demo.told("an empty question")
    demo.write("why " * 130)
    demo.all("#ask")[0].click()
    demo.told("the model takes 507 beside the page")
    assert demo.table() == []
    assert "Traceback" not in served[1].read_text()


@needs_browser
def test_nothing_leaves_the_machine(demo: Demo, served: tuple[str, Path]) -> None:
    """Neither what the browser asked for in all of these tests, nor what the server did."""
    demo.pick(2)
    demo.write("What is this?")
    demo.ask()
    requests = []
    for entry in demo.browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
            sent = message["params"]
            requests.append(urlsplit(sent.get("request", sent)["url"]))
    assert sum(url.hostname == "127.0.0.1" for url in requests) > 20
    # chrome: is the browser's own empty page.
    others = [url for url in requests if url.scheme not in ("chrome", "data", "blob")]
    assert {url.hostname for url in others} == {"127.0.0.1"}
    assert "calls out" not in served[1].read_text()


def test_it_listens_on_this_machine_only_by_default(run_tool: Callable[..., Any]) -> None:
    shown = run_tool("demo.py", "--help").out
    assert re.search(r"--host STR .*?\(default:\s+│?\s*│?\s*127\.0\.0\.1\)", shown, re.DOTALL)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "."], "demo.py: .: no weights there"),
        (["--model", "tiny", "--data", "nowhere"], "demo.py: nowhere"),
    ],
)
def test_bad_input_is_one_line(
    run_tool: Callable[..., Any],
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("gradio", reason="needs gradio")
    monkeypatch.chdir(tmp_path)
    outcome = run_tool("demo.py", *arguments)
    assert outcome.code == 2
    assert outcome.err.startswith(told)
    assert outcome.err.count("\n") == 1


def test_a_port_in_use_is_one_line(run_tool: Callable[..., Any]) -> None:
    pytest.importorskip("gradio", reason="needs gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = run_tool("demo.py", "--model", "tiny", "--port", port)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith(f"demo.py: 127.0.0.1:{port}: ")
    assert "try another --port" in outcome.err


def test_without_gradio_it_says_what_to_install(
    run_tool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    outcome = run_tool("demo.py", "--model", "tiny")
    assert outcome.code == 2
    assert outcome.err == (
        "demo.py: gradio is not installed; pip install 'florence-docs[demo]' brings it\n"
    )


def test_an_unforeseen_error_is_a_sentence_for_the_browser(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gradio = pytest.importorskip("gradio", reason="needs gradio")
    from florence_train.browser import sentences

    told: list[str] = []
    monkeypatch.setattr(gradio, "Warning", lambda message, **_: told.append(message))
    with sentences():
        raise RuntimeError("out of memory at 0x7f")
    with sentences():
        raise InputError("<b>scan.png</b>: no image")
    with sentences():
        pass
    assert told == [
        "This did not work; the terminal that the demo runs in says why.",
        "&lt;b&gt;scan.png&lt;/b&gt;: no image",
    ]
    assert "RuntimeError: out of memory at 0x7f" in capsys.readouterr().err
