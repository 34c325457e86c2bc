"""Curation: what is wrong with a set, what is in it twice, and what of it is in another one."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from florence_data.account import Account
from florence_data.curation import (
    NearDuplicates,
    decontaminate,
    deduplicate,
    find_contamination,
    find_duplicates,
    validate,
)
from florence_data.curation.fingerprints import Fingerprint, close_pairs, close_pairs_within
from florence_data.curation.likeness import likeness
from florence_data.errors import InputError
from florence_data.sample import Image, Region, Sample, Supervision
from florence_data.sample_set import SampleSet

needs_imagehash = pytest.mark.skipif(
    importlib.util.find_spec("imagehash") is None,
    reason="the curation extra is not installed",
)


def drawn_page(seed: int, lines: int = 30) -> Pillow.Image:
    """A page of random numbers in the layout of a letter."""
    rng = np.random.default_rng(seed)
    page = Pillow.new("L", (680, 880), 255)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for line in range(lines):
        words = " ".join(str(n) for n in rng.integers(10, 10**6, rng.integers(2, 8)))
        pen.text((40 + 20 * rng.integers(0, 4), 40 + 26 * line), words, fill=0, font=font)
    return page


def encoded(page: Pillow.Image, format: str = "PNG", **options) -> bytes:
    target = io.BytesIO()
    page.save(target, format, **options)
    return target.getvalue()


def sample_of(name: str, data: bytes, *rows: Supervision, **fields: str) -> Sample:
    rows = rows or (Supervision(id=f"{name}-q", question="what?", answers=("x",)),)
    image = Image.from_bytes(data, name)
    values = {"source": "drawn", "split": "train", "doc_id": name} | fields
    return Sample(id=name, image=image, supervisions=rows, **values)


def asked(name: str, question: str, *answers: str) -> Supervision:
    return Supervision(id=name, question=question, answers=answers)


# validate


def problems_of(*samples: Sample) -> list[tuple[str, str | None, str]]:
    report = validate(SampleSet.from_samples(samples))
    return [
        (problem.sample_id, problem.supervision_id, problem.kind) for problem in report.problems
    ]


def test_a_sound_set_has_no_problems() -> None:
    samples = [sample_of(str(seed), encoded(drawn_page(seed))) for seed in range(3)]
    report = validate(SampleSet.from_samples(samples))
    assert (report.pages, report.questions, report.unanswered, report.problems) == (3, 3, 0, ())


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (asked("q", "what?", "x", " "), "empty answer"),
        (asked("q", " ", "x"), "prompt"),
        (asked("", "what?", "x"), "schema"),
        (replace(asked("q", "", "x"), task="sing"), "prompt"),
        (replace(asked("q", "", "x"), task="region_to_ocr"), "prompt"),
        (replace(asked("q", "?", "1"), metadata={"question_types": ["Yes/No"]}), "answer type"),
        (replace(asked("q", "?", "c"), metadata={"choices": ["a", "b"]}), "answer type"),
        (replace(asked("q", "?", "C"), metadata={"choices": ["a", "b"]}), "answer type"),
        (
            Supervision(id="q", task="od", regions=(Region(label="a", box=(0, 0, 700, 10)),)),
            "region",
        ),
        (
            Supervision(
                id="q", task="od", regions=(Region(label="a", polygons=((0, 0, 9, 9, 1, 900),)),)
            ),
            "region",
        ),
    ],
)
def test_each_thing_that_is_wrong_with_a_question_is_found(row: Supervision, kind: str) -> None:
    assert problems_of(sample_of("p", encoded(drawn_page(1)), row)) == [("p", row.id, kind)]


@pytest.mark.parametrize(
    "row",
    [
        replace(asked("q", "?", "Yes", "no."), metadata={"question_types": ["Yes/No", "form"]}),
        replace(asked("q", "?", "b"), metadata={"choices": ["a", "b"]}),
        replace(asked("q", "?", "B"), metadata={"choices": ["a", "b"]}),
        Supervision(id="q", task="od", regions=(Region(label="a", box=(0, 0, 680.4, 880)),)),
    ],
)
def test_what_is_right_with_a_question_is_let_pass(row: Supervision) -> None:
    assert problems_of(sample_of("p", encoded(drawn_page(1)), row)) == []


def test_a_truncated_image_and_one_that_is_not_what_the_sample_says_are_found() -> None:
    whole = sample_of("p", encoded(drawn_page(1), "JPEG"))
    cut = replace(whole, image=replace(whole.image, data=whole.image.data[:5000]))
    other = replace(whole, image=replace(whole.image, width=681, sha256="0" * 64))
    assert problems_of(cut)[0][2] == "image"
    details = [problem.detail for problem in validate(SampleSet.from_samples([other])).problems]
    assert len(details) == 2
    assert "width is 680, the sample says 681" in details


def test_ids_that_occur_twice_are_found_once() -> None:
    data = encoded(drawn_page(1))
    samples = [sample_of("p", data, asked("q", "what?", "x"))] * 3
    assert problems_of(*samples) == [("p", None, "duplicate id"), ("p", "q", "duplicate id")]


def test_missing_fields_and_missing_questions_are_found() -> None:
    sample = replace(sample_of("p", encoded(drawn_page(1)), doc_id=""), supervisions=())
    assert problems_of(sample) == [("p", None, "schema")] * 2


def test_a_test_split_without_answers_is_counted_and_no_problem() -> None:
    sample = sample_of("p", encoded(drawn_page(1)), asked("q", "what?"))
    report = validate(SampleSet.from_samples([sample]))
    assert (report.unanswered, report.problems) == (1, ())


def test_the_printed_report_names_the_place_once() -> None:
    sample = sample_of("p", encoded(drawn_page(1)), asked("q", " ", "x"))
    text = str(validate(SampleSet.from_samples([sample])))
    assert "1 problems" in text and text.count("sample p, supervision q") == 1


def test_several_workers_find_the_same() -> None:
    samples = [sample_of(str(seed), encoded(drawn_page(seed), "JPEG")) for seed in range(4)]
    image = replace(samples[2].image, data=samples[2].image.data[:5000])
    samples[2] = replace(samples[2], image=image)
    samples = SampleSet.from_samples(samples)
    assert validate(samples).problems
    assert validate(samples, workers=2) == validate(samples)


# dedup


def test_pages_of_the_same_bytes_become_one_with_all_questions() -> None:
    first, second = encoded(drawn_page(1)), encoded(drawn_page(2))
    samples = SampleSet.from_samples(
        [
            sample_of("a", first, asked("1", "who?", "Ann"), asked("2", "when?", "1993")),
            sample_of("b", second, asked("1", "who?", "Bob")),
            sample_of("c", first, asked("1", "how much?", "5"), asked("9", "Who? ", "Ann", "A.")),
        ]
    )
    report = find_duplicates(samples, near=None)
    assert (report.repeated("exact"), report.repeated("near")) == (1, 0)
    account = Account()
    merged = []
    for sample in deduplicate(samples, report).read(account):
        account.keep_page(len(sample.supervisions))
        merged.append(sample)
    assert [sample.id for sample in merged] == ["a", "b"]
    assert merged[0].supervisions == (
        asked("1", "who?", "Ann", "A."),
        asked("2", "when?", "1993"),
        asked("c/1", "how much?", "5"),
    )
    assert account.questions.read == 5 and account.questions.kept == 4
    assert account.pages.balanced and account.questions.balanced
    assert account.pages.dropped == {"repeats another page": 1}
    assert account.questions.dropped == {"asked of the same page before": 1}


def test_a_page_that_asks_the_same_twice_itself_keeps_both() -> None:
    data = encoded(drawn_page(1))
    rows = (asked("1", "who?", "Ann"), asked("2", "who?", "Bob"))
    samples = SampleSet.from_samples([sample_of("a", data, *rows), sample_of("b", data)])
    (merged,) = deduplicate(samples, find_duplicates(samples, near=None))
    assert merged.supervisions[:2] == rows


def test_a_set_without_repeats_stays_as_it_is() -> None:
    samples = SampleSet.from_samples([sample_of(str(s), encoded(drawn_page(s))) for s in range(3)])
    report = find_duplicates(samples, near=None)
    assert report.groups == ()
    assert list(deduplicate(samples, report)) == list(samples)


def test_ids_that_are_not_unique_are_refused() -> None:
    sample = sample_of("a", encoded(drawn_page(1)))
    with pytest.raises(InputError, match="the first is 'a'"):
        find_duplicates(SampleSet.from_samples([sample, sample]), near=None)


@needs_imagehash
def test_a_page_scanned_again_is_found_and_the_larger_scan_stays() -> None:
    page = drawn_page(1)
    smaller = page.crop((8, 9, 672, 866)).resize((400, 520))
    region = Supervision(id="r", task="od", regions=(Region(label="a", box=(1, 1, 9, 9)),))
    samples = SampleSet.from_samples(
        [
            sample_of(
                "small", encoded(smaller, "JPEG", quality=60), asked("s", "who?", "Ann"), region
            ),
            sample_of("large", encoded(page)),
            *(sample_of(str(seed), encoded(drawn_page(seed))) for seed in range(2, 6)),
        ]
    )
    report = find_duplicates(samples)
    assert [(group.kept, group.repeats[0].sample_id) for group in report.groups] == [
        ("large", "small")
    ]
    assert report.repeated("near") == 1
    account = Account()
    first, *_ = list(deduplicate(samples, report).read(account))
    assert [row.id for row in first.supervisions] == ["large-q", "s"]
    assert account.questions.dropped == {"has places on another scan of the page": 1}


@needs_imagehash
def test_an_image_that_cannot_be_decoded_stops_the_search_with_its_name() -> None:
    sample = sample_of("p", encoded(drawn_page(1), "JPEG"))
    cut = replace(sample, image=replace(sample.image, data=sample.image.data[:5000]))
    with pytest.raises(InputError, match="sample p"):
        find_duplicates(SampleSet.from_samples([cut]))


def test_close_pairs_are_those_that_a_plain_count_finds() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (60, 256))
    bits[30:] = bits[:30] ^ (rng.random((30, 256)) < rng.random((30, 1)) / 2)
    pages = [
        Fingerprint(str(i), str(i), 1, np.packbits(row).tobytes()) for i, row in enumerate(bits)
    ]
    near = {(i, j) for i in range(60) for j in range(60) if np.sum(bits[i] != bits[j]) <= 88}
    assert len({pair for pair in near if pair[0] < pair[1]}) > 10
    assert set(close_pairs(pages, pages, 88)) == near
    assert set(close_pairs_within(pages, 88)) == {(i, j) for i, j in near if i < j}


# likeness


def grey(page: Pillow.Image) -> np.ndarray:
    return np.asarray(page.resize((512, 512), Pillow.Resampling.BICUBIC))


def test_a_picture_is_as_like_itself_as_can_be() -> None:
    assert likeness(grey(drawn_page(1)), grey(drawn_page(1))) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("box", [(13, 0, 680, 862), (0, 20, 666, 880), (10, 12, 671, 870)])
def test_a_page_is_like_its_crop_and_unlike_another(box: tuple[int, int, int, int]) -> None:
    page, crop = drawn_page(1), drawn_page(1).crop(box)
    assert likeness(grey(page), grey(crop)) > 0.8
    assert likeness(grey(crop), grey(page)) > 0.8
    assert likeness(grey(page), grey(drawn_page(2).crop(box))) < 0.6


def test_one_line_more_or_another_line_makes_a_page_less_like() -> None:
    page = drawn_page(1, lines=12)
    longer, other = page.copy(), page.copy()
    font = ImageFont.load_default(16)
    ImageDraw.Draw(longer).text((60, 600), "Paid in cash on 12 March, 1250.00", fill=0, font=font)
    ImageDraw.Draw(other).rectangle((30, 140, 650, 195), fill=255)
    for changed in (longer, other):
        assert likeness(grey(page), grey(changed)) < 0.78
        assert likeness(grey(changed), grey(page)) < 0.78


def test_pages_with_nothing_on_them_are_not_compared() -> None:
    blank = np.full((512, 512), 255, np.uint8)
    assert likeness(blank, blank) == 0
    assert likeness(grey(drawn_page(1)), blank) == 0


# decontaminate


@needs_imagehash
@pytest.mark.parametrize("workers", [1, 2])
def test_training_pages_of_an_evaluation_set_are_listed_and_leave(workers: int) -> None:
    same, scanned = encoded(drawn_page(1)), drawn_page(2).resize((500, 650))
    train = SampleSet.from_samples([sample_of(f"t{s}", encoded(drawn_page(s))) for s in range(5)])
    evaluation = SampleSet.from_samples(
        [
            sample_of("e1", same, split="validation"),
            sample_of("e2", encoded(scanned, "JPEG", quality=70)),
            sample_of("e3", encoded(drawn_page(99))),
        ]
    )
    report = find_contamination(train, evaluation, workers=workers)
    assert {(match.first, match.second, match.kind) for match in report.matches} == {
        ("t1", "e1", "exact"),
        ("t2", "e2", "near"),
    }
    account = Account()
    clean = list(decontaminate(train, report).read(account))
    assert [sample.id for sample in clean] == ["t0", "t3", "t4"]
    assert account.pages.dropped == {"also in the evaluation set": 2}
    assert "t2 is e2 (near" in str(report)


def test_exact_contamination_needs_no_extra() -> None:
    page = encoded(drawn_page(1))
    train = SampleSet.from_samples([sample_of("t", page)])
    report = find_contamination(train, SampleSet.from_samples([sample_of("e", page)]), near=None)
    assert report.contaminated == {"t"}


# on real pages


@needs_imagehash
def test_receipts_of_one_shop_are_told_apart_and_a_crop_is_found(shared_data: Path) -> None:
    """035 and 056 are one form with other figures; their hashes are closer than a page's crop."""
    rows = pq.read_table(shared_data / "documents/sroie").to_pylist()
    bytes_of = {row["images"][0]["path"]: row["images"][0]["bytes"] for row in rows}
    names = ("035.jpg", "056.jpg", "547.jpg", "552.jpg", "081.jpg", "084.jpg")
    page = Pillow.open(io.BytesIO(bytes_of["035.jpg"])).convert("L")
    width, height = page.size
    cropped = page.crop((int(0.02 * width), 0, width, int(0.98 * height)))
    samples = [sample_of(name, bytes_of[name]) for name in names]
    samples.append(sample_of("cropped", encoded(cropped, "JPEG", quality=70)))
    report = find_duplicates(SampleSet.from_samples(samples), NearDuplicates())
    assert [(match.first, match.second) for match in report.matches] == [("035.jpg", "cropped")]
