"""What `florence_eval.report` writes: files, numbers, pages, and nothing that data could do."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import PIL.Image
import pytest

import florence_eval
from florence_eval import InputError, Scores, compare, score

HOSTILE = [
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror='window.hacked=1'>",
    '"><svg onload=window.hacked=1>',
    "javascript:window.hacked=1",
    '=HYPERLINK("http://127.0.0.1/x")',
    "\u202egnp.exe\u2066\u200f",
    "\0\x1b[31m\x07 \u2028 \u2029",
    "<!--<script>",
    "${alert(1)} {{7*7}} $title",
    "'\"`&amp;&lt;",
]


def picture(width: int, height: int) -> bytes:
    encoded = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "white").save(encoded, "PNG")
    return encoded.getvalue()


def scored(rows: list[dict[str, Any]], **options: Any) -> Scores:
    rows = [{"question_id": str(number), **row} for number, row in enumerate(rows)]
    return score(pd.DataFrame(rows), **options)


def hostile_scores() -> Scores:
    return scored(
        [
            {
                "question_id": f"{number} {text}",
                "question": text,
                "prediction": text,
                "answers": [text[::-1], "x" + text],
                "doc_id": text,
                "image": text,
                "source": text,
                "question_types": [text, "usual"],
                "metadata": {text: text, "also": [text]},
                "further": text,
            }
            for number, text in enumerate(HOSTILE)
        ],
        columns=["metadata", "further"],
        metric="anls",
    )


def texts(folder: Path) -> Iterator[dict[str, Any]]:
    """The questions in the parts of a report, as its script gets them."""
    parts = sorted((folder / "report_files/questions").iterdir(), key=lambda path: int(path.stem))
    for number, path in enumerate(parts):
        found = re.fullmatch(r"questions\((\d+),(.*)\)\n", path.read_text(encoding="utf-8"))
        assert found is not None and int(found[1]) == number
        yield from json.loads(found[2])


def block(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def joined(answer: dict[str, Any], side: int) -> str:
    return "".join(pair if isinstance(pair, str) else pair[side] for pair in answer["pairs"])


class Elements(HTMLParser):
    """Counts the elements of a page and keeps their attributes and the text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data


def test_a_report_is_a_page_texts_in_parts_and_each_page_once(tmp_path: Path) -> None:
    rows = [
        {"prediction": "a", "answers": ["a", "b"], "image": image, "question": f"q{number}"}
        for number, image in enumerate(["one", "two", "one", "lost", "broken"] * 201)
    ]
    pages = {"one": picture(3000, 1000), "two": picture(30, 40), "broken": b"no image"}
    asked: list[str] = []

    def images(name: str) -> bytes | None:
        asked.append(name)
        return pages.get(name)

    written = florence_eval.report(scored(rows), tmp_path, images=images)
    assert asked == ["one", "two", "lost", "broken"]
    assert written.pages == 2
    assert str(written).endswith(
        "report.html: 2 page images; 1 not among the images; 1 not an image of a known format"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report_files"]
    stored = sorted((tmp_path / "report_files/pages").iterdir())
    assert [path.name for path in stored] == ["0.jpg", "1.jpg"]
    assert [PIL.Image.open(path).size for path in stored] == [(1600, 533), (30, 40)]
    found = list(texts(tmp_path))
    assert [each["question"] for each in found] == [f"q{number}" for number in range(1005)]
    index = block(written.path.read_text(encoding="utf-8"), "index")
    assert index["page"][:5] == [0, 1, 0, -1, -1]
    assert index["sizes"] == [[1600, 533], [30, 40], [0, 0], [0, 0]]


def test_pages_keep_nothing_but_their_pixels(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    about = PIL.Image.Exif()
    about[0x010E] = "where it was taken"
    PIL.Image.new("L", (20, 10)).save(encoded, "JPEG", exif=about)
    rows = [{"prediction": "a", "answers": ["a"], "image": "../../../etc/passwd"}]
    florence_eval.report(scored(rows), tmp_path, images=lambda _: encoded.getvalue())
    (stored,) = (tmp_path / "report_files/pages").iterdir()
    assert b"where it was taken" in encoded.getvalue()
    assert b"where it was taken" not in stored.read_bytes()


def test_a_single_file_holds_texts_and_thumbnails(tmp_path: Path) -> None:
    rows = [{"prediction": "a", "answers": ["b"], "image": "one", "question": "what?"}]
    florence_eval.report(scored(rows), tmp_path)
    written = florence_eval.report(
        scored(rows), tmp_path, images={"one": picture(2000, 1000)}.get, single_file=True
    )
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    page = written.path.read_text(encoding="utf-8")
    assert block(page, "questions-0")[0]["question"] == "what?"
    assert block(page, "page-0").startswith("data:image/webp;base64,")
    assert block(page, "index")["sizes"] == [[720, 360]]


def test_a_report_is_replaced_whole_and_another_folder_left_alone(tmp_path: Path) -> None:
    many = [{"prediction": "a", "answers": ["a"], "image": str(number)} for number in range(3)]
    images = dict.fromkeys(["0", "1", "2"], picture(9, 9)).get
    florence_eval.report(scored(many), tmp_path, images=images)
    florence_eval.report(scored(many[:1]), tmp_path, images=images)
    assert len(list((tmp_path / "report_files/pages").iterdir())) == 1

    (tmp_path / "report.html").unlink()
    with pytest.raises(InputError, match=r"report_files: exists, but .*report\.html does not"):
        florence_eval.report(scored(many), tmp_path)
    assert len(list((tmp_path / "report_files/pages").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        florence_eval.report(scored(many), tmp_path / "file")


def test_a_failure_leaves_the_older_report(tmp_path: Path) -> None:
    rows = [{"prediction": "a", "answers": ["a"], "image": "one"}]
    before = florence_eval.report(scored(rows), tmp_path).path.read_bytes()

    def images(_: str) -> bytes:
        raise RuntimeError("in between")

    with pytest.raises(RuntimeError):
        florence_eval.report(scored(rows), tmp_path, images=images)
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report_files"]


def test_the_overview_names_score_variant_interval_and_slices(tmp_path: Path) -> None:
    rows = [
        {"prediction": "a", "answers": ["a"], "doc_id": "1", "question_types": ["form"]},
        {"prediction": "abcx", "answers": ["abcd"], "doc_id": "1", "question_types": ["table"]},
        {"prediction": "b", "answers": ["a"], "doc_id": "2", "question_types": ["form", "table"]},
        {"prediction": "", "answers": ["a"], "doc_id": "3", "question_types": []},
    ]
    scores = scored(rows, variant="paper")
    text = Elements(florence_eval.report(scores, tmp_path).path.read_text(encoding="utf-8")).text
    words = " ".join(text.split())
    assert "0.438" in words and "anls (paper)" in words and "4 questions on 3 documents" in words
    assert f"95 % interval {scores.score.low:.3f}".replace("-", "\u2212") in words.replace(
        "\xa0", " "
    )
    # n, mean and points lost of two slices: form (1 + 0) / 2, (none) 0.
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    values = {
        html.unescape(row[0]): [float(value) for value in row[1:]]
        for row in re.findall(
            r'<th scope="row" data-value="([^"]*)">.*?data-value="([^"]*)".*?data-value="([^"]*)"'
            r'.*data-value="([^"]*)">[^<]*</td></tr>',
            page.replace("</tr>", "</tr>\n"),
        )
    }
    assert values["form"] == [2, 0.5, 0.25]
    assert values["table"] == [2, 0.375, 0.3125]
    assert values["(none)"] == [1, 0, 0.25]


def test_every_bar_of_the_distribution_counts_its_questions(tmp_path: Path) -> None:
    answers = ["abcdefghij"] * 5
    predictions = ["abcdefghij", "abcdefghix", "abcdefgxyz", "abcdexxxxx", "xxxxxxxxxx"]
    rows = [{"prediction": p, "answers": [a]} for p, a in zip(predictions, answers, strict=True)]
    page = florence_eval.report(scored(rows), tmp_path).path.read_text(encoding="utf-8")
    said = re.findall(r"<title>(\d+) questions score ([^<]*)</title>", page)
    counts = {scores: int(count) for count, scores in said}
    assert sum(counts.values()) == 5
    expected = {"0": 1, "0.5 to 0.5999": 1, "0.7 to 0.7999": 1, "0.9 to 0.9999": 1, "1": 1}
    assert {scores: count for scores, count in counts.items() if count} == expected


def test_questions_are_filtered_by_what_tells_kinds_of_them_apart(tmp_path: Path) -> None:
    rows = [
        {
            "prediction": "a",
            "answers": ["a"],
            "source": "one",
            "metadata": {"language": "en" if number % 2 else "de", "row": number, "same": 1},
            "shard": f"{number % 3}",
            "alike": "en" if number % 2 else "de",
            "unique": str(number),
        }
        for number in range(100)
    ]
    scores = scored(rows, columns=["metadata", "shard", "unique", "alike"])
    page = florence_eval.report(scores, tmp_path).path.read_text(encoding="utf-8")
    facets = {facet["key"]: facet["labels"] for facet in block(page, "index")["facets"]}
    del facets["category"]
    # Not: one label, a hundred labels, labels that another column has question for question.
    assert facets == {"by.shard": ["0", "1", "2"], "by.alike": ["de", "en"]}
    assert next(texts(tmp_path))["facts"] == {
        "language": "de", "row": "0", "same": "1", "shard": "0", "unique": "0", "alike": "de",
    }  # fmt: skip


def test_the_worst_come_first_for_scores_and_error_rates(tmp_path: Path) -> None:
    rows = [{"prediction": text, "answers": ["abcd"]} for text in ("abcd", "abcx", "xxxx", "axxx")]
    for metric, worst in (("anls", [2, 3, 1, 0]), ("cer", [2, 3, 1, 0])):
        page = florence_eval.report(scored(rows, metric=metric), tmp_path).path
        assert block(page.read_text(encoding="utf-8"), "index")["worst"] == worst


def test_a_comparison_shows_both_predictions_and_what_changed(tmp_path: Path) -> None:
    answers = ["abcd", "abcd", "abcd", "abcd", "abcd"]
    after = ["abcd", "xxxx", "abcd", "abcx", "new"]
    before = ["xxxx", "abcd", "abcd", "abcd"]
    a = scored([{"prediction": p, "answers": [r]} for p, r in zip(after, answers, strict=True)])
    b = scored([{"prediction": p, "answers": [r]} for p, r in zip(before, answers, strict=False)])
    written = florence_eval.report(compare(a, b), tmp_path)
    page = written.path.read_text(encoding="utf-8")
    index = block(page, "index")
    (changes,) = (facet for facet in index["facets"] if facet["key"] == "change")
    assert [changes["labels"][code] for code in changes["codes"]] == [
        "fixed", "broken", "same", "worse", "new",
    ]  # fmt: skip
    assert index["gains"] == [1, -1, 0, -0.25, 0]
    shown = [each["before"] and joined(each["before"], 0) for each in texts(tmp_path)]
    assert shown == [*before, None]
    words = " ".join(Elements(page).text.split())
    assert "\u22120.062" in words and "from 0.750 to 0.688" in words
    assert "1 only in predictions" in words


def test_fixed_is_better_for_error_rates_too(tmp_path: Path) -> None:
    a = scored([{"prediction": "abcd", "answers": ["abcd"]}], metric="cer")
    b = scored([{"prediction": "wxyz", "answers": ["abcd"]}], metric="cer")
    page = florence_eval.report(compare(a, b), tmp_path).path.read_text(encoding="utf-8")
    (changes,) = (f for f in block(page, "index")["facets"] if f["key"] == "change")
    assert changes["labels"][changes["codes"][0]] == "fixed"


@pytest.mark.parametrize("single_file", [False, True])
def test_hostile_text_is_text(tmp_path: Path, single_file: bool) -> None:
    scores = hostile_scores()
    images = dict.fromkeys(HOSTILE, picture(9, 9)).get
    report = florence_eval.report(
        compare(scores, scores), tmp_path, images=images, single_file=single_file
    )
    page = report.path.read_text(encoding="utf-8")
    usual = [{"prediction": "a", "answers": ["b"], "source": s} for s in "xy"]
    usual_scores = scored(usual)
    plain = florence_eval.report(compare(usual_scores, usual_scores), tmp_path / "usual")
    known = Elements(plain.path.read_text(encoding="utf-8"))
    found = Elements(page)

    # The same kinds of elements and attributes as any report has, and one script that can run.
    assert set(found.names) <= {*known.names, "div"}
    scripts = found.names["script"] - sum(
        1 for each in found.attributes if each == ("script", "type", "application/json")
    )
    assert (scripts, found.names["img"]) == (1, 0)
    for tag, name, value in found.attributes:
        assert not name.startswith("on") and name not in ("style", "src", "srcdoc")
        if name == "href":
            assert value.startswith("#") or (tag, value) == ("link", "data:,")
    # What cannot be seen or turns text round is spelled out, wherever it is not data of the script.
    assert not set(found.text) & set("\0\x1b\x07\u2028\u2029\u202e\u2066\u200f")
    assert "\u27e8U+202E\u27e9gnp.exe" in found.text

    # The script gets exactly what the predictions hold.
    rows = block(page, "questions-0") if single_file else list(texts(tmp_path))
    assert [joined(row["answer"], 0) for row in rows] == HOSTILE
    assert [row["question"] for row in rows] == HOSTILE
    assert [row["facts"][text] for row, text in zip(rows, HOSTILE, strict=True)] == HOSTILE
    for path in tmp_path.rglob("*.js"):
        assert not set(path.read_text(encoding="utf-8")) & set("<>&\u2028\u2029")


def test_a_policy_allows_one_script_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    rows = [{"prediction": "a", "answers": ["b"]}]
    page = florence_eval.report(scored(rows), tmp_path).path.read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    for kind, body in (
        ("script", re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)[-1]),
        ("style", re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]),
    ):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.findall(r"https?://|//[a-z]+\.", page)


def luminance(color: str) -> float:
    """WCAG 2.2's relative luminance of #rrggbb or #rgb."""
    digits = color.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(repository: Path, theme: str) -> None:
    style = (repository / "florence_eval/error_report/page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", part))
        for part in style.split("@media (prefers-color-scheme: dark)")
    )
    assert light.keys() == dark.keys()
    colors = light if theme == "light" else dark
    grounds = {name: colors[name] for name in ("paper", "raised", "chosen")}
    pairs = [
        (ink, ground) for ink in ("ink", "soft", "good", "bad", "middle") for ground in grounds
    ]
    pairs += [("link", "paper"), ("good", "good-back"), ("bad", "bad-back")]
    for ink, ground in pairs:
        one, other = sorted((luminance(colors[ink]), luminance(colors[ground])))
        assert (other + 0.05) / (one + 0.05) >= 4.5, (theme, ink, ground)


def test_real_predictions_make_a_report(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "docvqa_predictions"
    a, b = (score(folder / f"{name}.jsonl") for name in ("llama_nemotron", "qwen2_vl_2b_instruct"))
    comparison = compare(a, b)
    page = florence_eval.report(comparison, tmp_path).path.read_text(encoding="utf-8")
    index = block(page, "index")
    (changes,) = (facet for facet in index["facets"] if facet["key"] == "change")
    found = Counter(changes["labels"][code] for code in changes["codes"])
    assert found["fixed"] == len(comparison.flipped_to_a)
    assert found["broken"] == len(comparison.flipped_to_b)
    lines = (folder / "llama_nemotron.jsonl").read_text(encoding="utf-8").splitlines()
    predictions = [json.loads(line)["prediction"] for line in lines]
    assert [joined(row["answer"], 0) for row in texts(tmp_path)] == predictions
