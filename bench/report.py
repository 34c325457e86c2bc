"""Measures the error report of 100,000 questions in a real browser.

    python bench/report.py [--questions 100000]

Writes bench/results/report.md. Needs selenium, chromium and chromedriver. Pages are small generated
pictures, one for four questions; the time to write them is in the time of writing the report.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median

import pandas as pd
import PIL.Image
import tyro
from score import questions
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

import florence_eval

RESULTS = Path(__file__).parent / "results"

# Runs before the page does: notes when the list first shows the text of a question.
WATCH = """
new MutationObserver((_, observer) => {
  const asked = document.querySelector(".item .asked");
  if (asked && asked.textContent !== "…") {
    window.firstRow = performance.now();
    observer.disconnect();
  }
}).observe(document, {childList: true, subtree: true, characterData: true});
"""
# Changes the address and waits until the count of questions says something else.
FILTER = """
const [address, done] = arguments;
const output = document.getElementById("count");
const begun = performance.now();
new MutationObserver((_, observer) => {
  if (output.value.includes("question")) {
    observer.disconnect();
    done([performance.now() - begun, output.value]);
  }
}).observe(output, {childList: true, subtree: true, characterData: true});
location.hash = address;
"""
ACTIONS = {
    "filter by category": "#category=near_miss",
    "sort, best first": "#sort=best&category=wrong",
    "first search of all texts (loads every part)": "#text=page-0001",
    "second search": "#text=of%20the%20document",
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    questions: int = 100_000
    repeats: int = 3
    """Times that the page is opened; the median counts."""
    seed: int = 0


def browser(profile: str) -> webdriver.Chrome:
    """Chromium without network chatter of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync "
        f"--window-size=1400,900 --user-data-dir={profile}"
    ).split():
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def opened(page: Path) -> tuple[float, list[tuple[float, str]]]:
    """Seconds to the first row, and of each action with the count that it led to."""
    with tempfile.TemporaryDirectory() as profile, browser(profile) as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        driver.get(page.as_uri())
        WebDriverWait(driver, 60).until(lambda it: it.execute_script("return window.firstRow"))
        first = driver.execute_script("return window.firstRow") / 1000
        driver.set_script_timeout(120)
        actions = [driver.execute_async_script(FILTER, address) for address in ACTIONS.values()]
    return first, [(milliseconds / 1000, said) for milliseconds, said in actions]


def main(options: Options) -> None:
    load = os.getloadavg()[0]
    frame = pd.DataFrame(
        [
            {**asdict(each), "image": each.doc_id, "question_types": [each.question.split()[0]]}
            for each in questions(options.questions, options.seed)
        ]
    )
    scores = florence_eval.score(frame)

    @cache
    def picture() -> bytes:
        encoded = io.BytesIO()
        PIL.Image.effect_noise((200, 260), 40).save(encoded, "JPEG")
        return encoded.getvalue()

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        written = florence_eval.report(scores, folder, images=lambda _: picture())
        writing = time.perf_counter() - begun
        html = written.path.stat().st_size / 2**20
        texts = [path.stat().st_size for path in Path(folder).glob("report_files/questions/*")]
        runs = [opened(written.path) for _ in range(options.repeats)]
    rows = [("first row shown", median(first for first, _ in runs), "")]
    for place, name in enumerate(ACTIONS):
        times = median(actions[place][0] for _, actions in runs)
        rows.append((name, times, runs[0][1][place][1]))
    table = "\n".join(f"| {name} | {seconds:.2f} | {said} |" for name, seconds, said in rows)
    result = f"""# The error report in a browser

`python bench/report.py`; {options.questions:,} seeded questions on {written.pages:,} pages, opened
as a file by headless Chromium, median of {options.repeats}. Machine: {os.cpu_count()} cores,
{platform.machine()}, Python {platform.python_version()}, load before {load:.1f}.

Writing the report took {writing:.0f} s. report.html has {html:.1f} MB, and {len(texts)} parts hold
{sum(texts) / 2**20:.0f} MB of texts.

| | seconds | shown |
|---|---:|---|
{table}
"""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "report.md").write_text(result, encoding="utf-8")
    print(result)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
