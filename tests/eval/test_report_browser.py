"""The error report in a real browser, opened as a file: headless Chromium, driven by selenium."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import PIL.Image
import pytest

import florence_eval
from florence_eval import Scores, compare, score

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
WIDE, PHONE = (1400, 900), (390, 844)
HOSTILE = '</script><img src=x onerror="window.hacked=1">\u202e\0<script>window.hacked=1</script>'


class Browser:
    """A report in the browser, and what it shows."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, address: str = "", size: tuple[int, int] = WIDE) -> None:
        """Opens a page afresh; the logs begin there."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri() + address)
        self.until(lambda: self.count and not self.count.startswith("Searching"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, holds: Callable[[], Any]) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: holds())

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def press(self, key: str) -> None:
        self.driver.switch_to.active_element.send_keys(key)

    @property
    def count(self) -> str:
        return str(self.run("return document.getElementById('count').value"))

    @property
    def listed(self) -> list[str]:
        """The questions in view, once their texts are there."""
        script = "return [...document.querySelectorAll('.item .asked')].map(it => it.textContent)"
        self.until(lambda: "…" not in self.run(script))
        return list(self.run(script))

    @property
    def question(self) -> str:
        return str(self.run("return document.querySelector('.question h2')?.textContent ?? ''"))

    @property
    def address(self) -> str:
        return str(self.run("return location.hash"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(programs[1])
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver


@pytest.fixture
def browser(driver: Any) -> Iterator[Browser]:
    """The browser; after the test, nothing was asked of the network and nothing went wrong."""
    yield Browser(driver)
    assert [entry["message"] for entry in driver.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:"))] == []
    assert asked


def picture(image: str) -> bytes:
    encoded = io.BytesIO()
    PIL.Image.new("RGB", (600, 800), "white").save(encoded, "JPEG")
    return encoded.getvalue()


def scored(count: int = 60, wrong_every: int = 3) -> Scores:
    """Question i is on page i // 4, of type even or odd, and wrong where `wrong_every` says so."""
    rows = [
        {
            "question_id": f"id {number}",
            "question": f"question {number}",
            "prediction": "Total 10x" if number % wrong_every == 0 else "total 100",
            "answers": ["total 100", "other"],
            "image": f"page {number // 4}",
            "source": "left" if number < count // 2 else "right",
            "question_types": ["odd" if number % 2 else "even"],
            "metadata": {"secret": f"needle{number}"},
        }
        for number in range(count)
    ]
    rows[7] |= {"question": HOSTILE, "prediction": HOSTILE, "doc_id": HOSTILE, "source": HOSTILE}
    rows[7] |= {"question_types": [HOSTILE], "question_id": HOSTILE}
    for number in range(count):
        rows[number].setdefault("doc_id", f"doc {number // 4}")
    return score(pd.DataFrame(rows), metric="anls", columns=["metadata"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report with spaces & #signs")
    return florence_eval.report(scored(), folder, images=picture).path


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    return florence_eval.report(compare(scored(60, 5), scored(60, 3)), folder, images=picture).path


def test_the_first_screen_shows_the_worst_question_with_its_page(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    assert browser.count.startswith("60 questions, mean score 0.9")
    browser.until(lambda: browser.question)
    assert browser.run("return document.querySelector('.verdict .score').textContent") == "0.000"
    browser.until(lambda: browser.run("return document.querySelector('.page img').naturalWidth"))
    assert browser.run("return document.querySelector('.page img').naturalWidth") == 600


def test_differences_are_marked_and_case_only_hinted(browser: Browser, page: Path) -> None:
    browser.open(page, "#q=id%203")
    browser.until(lambda: browser.question == "question 3")
    marks = "return [...document.querySelectorAll('dd.text')].map(it => it.innerHTML)"
    assert browser.run(marks) == [
        '<span class="case">T</span>otal 10<del>x</del>',
        '<span class="case">t</span>otal 10<ins>0</ins>',
    ]
    assert "other" in browser.find(".others").text
    assert "needle3" in browser.find(".metadata").text


def test_filters_narrow_the_list_and_can_be_cleared(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(
        """const select = document.querySelector("select[data-key=type]");
        select.value = "odd"; select.dispatchEvent(new Event("change"));"""
    )
    browser.until(lambda: browser.count.startswith("29 of 60"))
    assert "type=odd" in browser.address
    browser.run(
        """const least = document.getElementById("max");
        least.value = "0.95"; least.dispatchEvent(new Event("change"));"""
    )
    browser.until(lambda: browser.count.startswith("10 of 60"))
    assert browser.listed == [f"question {number}" for number in range(3, 60, 6)]
    browser.find("#clear").click()
    browser.until(lambda: browser.count.startswith("60 questions"))
    browser.driver.back()
    browser.until(lambda: browser.count.startswith("10 of 60"))


def test_a_category_and_a_bar_link_to_their_questions(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.find(".categories a[href='#category=near_miss']").click()
    browser.until(lambda: browser.count.startswith("20 of 60"))
    browser.until(lambda: browser.run("return scrollY > 0"))
    assert browser.run("return document.querySelector('select[data-key=category]').value")
    browser.driver.back()
    browser.until(lambda: browser.count.startswith("60 questions"))
    browser.run("document.querySelector('.histogram a[href*=\"min=1.0\"]').dispatchEvent("
                "new MouseEvent('click', {bubbles: true, cancelable: true}))")  # fmt: skip
    browser.until(lambda: browser.count.startswith("39 of 60"))


def test_slices_sort_by_any_column(browser: Browser, page: Path) -> None:
    browser.open(page)
    column = """return [...document.querySelectorAll(".slices table")[0].tBodies[0].rows]
        .map(row => Number(row.cells[arguments[0]].dataset.value))"""
    for place in (1, 2):
        button = f".slices table th:nth-child({place + 1}) button"
        browser.find(button).click()
        values = browser.run(column, place)
        assert values == sorted(values, reverse=True)
        assert browser.find(f".slices th:nth-child({place + 1})").get_attribute("aria-sort")
        browser.find(button).click()
        assert browser.run(column, place) == sorted(values)


def test_the_list_sorts(browser: Browser, page: Path) -> None:
    browser.open(page, "#sort=file")
    assert browser.listed[:3] == ["question 0", "question 1", "question 2"]
    browser.run(
        """const sort = document.getElementById("sort");
        sort.value = "best"; sort.dispatchEvent(new Event("change"));"""
    )
    browser.until(lambda: browser.listed[0] == "question 59")


@pytest.mark.parametrize(
    ("typed", "count"),
    [("NEEDLE33", 1), ("question 1", 11), ("total 10x", 20), ("doc 14", 4), ("nowhere", 0)],
)
def test_search_looks_at_all_texts(browser: Browser, page: Path, typed: str, count: int) -> None:
    browser.open(page)
    browser.find("#text").send_keys(typed)
    browser.until(lambda: browser.count.startswith(f"{count} of 60"))
    assert f"text={typed.replace(' ', '+')}" in browser.address


def test_a_deep_link_opens_its_question(browser: Browser, page: Path) -> None:
    browser.open(page, "#q=id%2042")
    browser.until(lambda: browser.question == "question 42")
    assert browser.find("[aria-selected=true] .asked").text == "question 42"
    href = browser.find(".metadata a.id").get_attribute("href")
    assert href == page.as_uri() + "#q=id+42"
    browser.open(page, "#q=missing")
    browser.until(lambda: "There is no question missing" in browser.find(".question").text)


def test_arrow_keys_go_through_the_questions(browser: Browser, page: Path) -> None:
    browser.open(page, "#sort=file")
    browser.find("body").send_keys(Keys.ARROW_RIGHT)
    browser.until(lambda: browser.question == "question 1")
    browser.press(Keys.ARROW_RIGHT)
    browser.until(lambda: browser.question == "question 2")
    browser.press(Keys.ARROW_LEFT)
    browser.until(lambda: browser.question == "question 1")
    browser.run("document.getElementById('list').focus()")
    browser.press(Keys.END)
    browser.until(lambda: browser.question == "question 59")
    assert browser.find("#list").get_attribute("aria-activedescendant") == "item-59"
    assert browser.run(
        """const item = document.querySelector("[aria-selected=true]").getBoundingClientRect();
        const list = document.getElementById("list").getBoundingClientRect();
        return item.top >= list.top - 1 && item.bottom <= list.bottom + 1;"""
    )
    browser.press(Keys.ARROW_UP)
    browser.until(lambda: browser.question == "question 58")
    # In a field they move the cursor.
    browser.find("#text").send_keys(Keys.ARROW_RIGHT)
    assert browser.question == "question 58"


def test_next_keeps_the_focus(browser: Browser, page: Path) -> None:
    browser.open(page, "#sort=file")
    browser.until(lambda: browser.question == "question 0")
    browser.find("button[aria-label='Next question']").click()
    browser.until(lambda: browser.question == "question 1")
    focused = "return document.activeElement.getAttribute('aria-label')"
    assert browser.run(focused) == "Next question"


def test_hostile_text_does_nothing(browser: Browser, page: Path) -> None:
    browser.open(page, f"#q={quote(HOSTILE)}")
    browser.until(lambda: "window.hacked" in browser.question)
    assert browser.question == HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\0", "⟨U+0000⟩")
    assert browser.run("return window.hacked") is None
    assert browser.run("return document.querySelectorAll('img').length") == 1
    browser.open(page, f"#source={quote(HOSTILE)}")
    browser.until(lambda: browser.count.startswith("1 of 60"))
    assert browser.run("return window.hacked") is None


def test_a_page_zooms(browser: Browser, page: Path) -> None:
    browser.open(page, size=(800, 900))
    browser.until(lambda: browser.run("return document.querySelector('.page img')?.naturalWidth"))
    width = "return document.querySelector('.page img').getBoundingClientRect().width"
    fitting = browser.run(width)
    browser.run("document.querySelector('.zoom').click()")
    assert browser.run(width) == pytest.approx(2 * fitting, abs=4)
    assert browser.find(".zoom").get_attribute("aria-pressed") == "true"


def test_on_a_phone_a_question_opens_over_the_list(browser: Browser, page: Path) -> None:
    browser.open(page, "#category=near_miss", size=PHONE)
    assert browser.run("return document.documentElement.scrollWidth") <= PHONE[0]
    assert not browser.find(".question").is_displayed()
    browser.run("document.querySelector('.item').click()")
    browser.until(lambda: browser.find(".question").is_displayed())
    assert browser.run("return document.getElementById('list').inert")
    browser.until(lambda: browser.question)
    assert browser.run("return document.querySelector('.question').scrollWidth") <= PHONE[0]
    browser.find(".back").click()
    browser.until(lambda: not browser.find(".question").is_displayed())
    assert browser.count.startswith("20 of 60")


def test_dark_mode_is_dark(browser: Browser, page: Path) -> None:
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    browser.open(page)
    light = browser.run(ground)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        assert light == "rgb(255, 255, 255)"
        assert browser.run(ground) == "rgb(22, 22, 24)"
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("which", ["page", "comparison_page"])
def test_every_control_has_a_name_and_the_focus_goes_from_top_to_bottom(
    browser: Browser, request: pytest.FixtureRequest, which: str
) -> None:
    browser.open(request.getfixturevalue(which))
    browser.until(lambda: browser.question)
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "combobox", "searchbox", "spinbutton", "link", "listbox", "option", "image"}
    controls = [node for node in tree if node.get("role", {}).get("value") in roles]
    assert len(controls) > 30
    assert [node for node in controls if not node.get("name", {}).get("value")] == []
    browser.run(
        """window.visited = [];
        document.addEventListener("focusin", ({target}) => window.visited.push(
          target.closest(".slices, .categories, .distribution, .question")?.classList[0]
            ?? (target.id || target.className)));"""
    )
    ActionChains(browser.driver).send_keys(Keys.TAB * 70).perform()
    seen = list(dict.fromkeys(browser.run("return window.visited")))
    wanted = ["skip", "slices", "categories", "distribution", "text", "min", "max", "sort", "list"]
    wanted.append("question")
    assert [name for name in seen if name in wanted] == wanted


def test_a_comparison_sorts_and_filters_by_change(browser: Browser, comparison_page: Path) -> None:
    browser.open(comparison_page, "#change=better&sort=file")
    assert browser.listed[:3] == ["question 3", "question 6", "question 9"]
    browser.until(lambda: browser.question == "question 3")
    shown = browser.run("return [...document.querySelectorAll('dt')].map(it => it.textContent)")
    assert [name for name in shown if name in ("Before", "After")] == ["Before", "After"]
    lefts = browser.run(
        "return [...document.querySelectorAll('.answer')].map(it => it.getBoundingClientRect().x)"
    )
    assert lefts[0] < lefts[1]
    browser.open(comparison_page, "#sort=worsened")
    assert browser.listed[0] == "question 5"


def test_one_file_alone_shows_everything(browser: Browser, tmp_path: Path) -> None:
    report = florence_eval.report(scored(), tmp_path, images=picture, single_file=True)
    moved = report.path.rename(tmp_path / "moved.html")
    browser.open(moved, "#text=needle33")
    browser.until(lambda: browser.question == "question 33")
    browser.until(lambda: browser.run("return document.querySelector('.page img').naturalWidth"))


def test_missing_parts_are_named(driver: Any, tmp_path: Path) -> None:
    report = florence_eval.report(scored(), tmp_path)
    shutil.rmtree(tmp_path / "report_files")
    browser = Browser(driver)
    browser.open(report.path)
    said = "report_files/questions/0.js is not beside report.html"
    browser.until(lambda: said in browser.find(".question").text)
    driver.get_log("browser")


def test_only_what_is_in_view_is_drawn_and_loaded(browser: Browser, tmp_path: Path) -> None:
    report = florence_eval.report(scored(4_000), tmp_path)
    browser.open(report.path, "#sort=file")
    assert browser.listed[0] == "question 0"
    loaded = "return document.querySelectorAll('script[src]').length"
    assert browser.run(loaded) == 1
    browser.run("const list = document.getElementById('list'); list.scrollTop = list.scrollHeight")
    browser.until(lambda: browser.listed[-1] == "question 3999")
    assert browser.run("return document.querySelectorAll('.item').length") < 60
    assert browser.run(loaded) == 2


@pytest.mark.long
def test_100000_questions_show_their_first_row_within_three_seconds(
    browser: Browser, tmp_path: Path
) -> None:
    report = florence_eval.report(scored(100_000), tmp_path)
    begun = time.perf_counter()
    browser.open(report.path)
    assert browser.listed
    assert time.perf_counter() - begun < 3
