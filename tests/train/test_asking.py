"""A page is asked one question at a time, encoded once, and answers as prediction does."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from florence_data import InputError, Region, SampleSet
from florence_train import PredictConfig, predict
from florence_train.asking import Asker, Page
from florence_train.drawing import COLOURS, draw_regions


@pytest.fixture(scope="module")
def asker() -> Asker:
    return Asker.load("tiny")


@pytest.fixture
def encodings(asker: Asker) -> Any:
    """A list that grows by one each time the tower runs."""
    runs: list[int] = []
    hook = asker.florence.model.model.vision_tower.register_forward_hook(
        lambda *_: runs.append(len(runs))
    )
    yield runs
    hook.remove()


def encoded(picture: PIL.Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def noise(seed: int, size: tuple[int, int] = (64, 64)) -> PIL.Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return PIL.Image.fromarray(values)


def test_answers_and_confidences_are_those_of_prediction(
    asker: Asker, shards: Path, samples: SampleSet, tmp_path: Path, encodings: list[int]
) -> None:
    out = tmp_path / "predictions.jsonl"
    predict(PredictConfig(model="tiny", data=str(shards), out=str(out), confidence=True, workers=0))
    rows = {row["question_id"]: row for row in map(json.loads, out.read_text().splitlines())}
    asked = 0
    for sample in samples:
        page = Page.open(sample.image.read(), sample.id)
        for supervision in sample.supervisions:
            reply = asker.ask(page, supervision.question)
            row = rows[supervision.id]
            assert reply.text == row["prediction"]
            assert reply.confidence == pytest.approx(row["confidence"], rel=1e-3)
            asked += 1
    assert asked == len(rows) == 20
    assert len(encodings) == len(samples) == 8


def test_a_page_is_encoded_for_its_first_question_only(asker: Asker, encodings: list[int]) -> None:
    first, second = (Page.open(encoded(noise(seed)), "page") for seed in (1, 2))
    replies = [
        asker.ask(first, "What is the total?"),
        asker.ask(first, "What is the date?"),
        asker.ask(first, task="caption"),
        asker.ask(second, "What is the total?"),
        asker.ask(first, "What is the total?"),
    ]
    assert [reply.encoded for reply in replies] == [True, False, False, True, True]
    assert len(encodings) == 3
    assert replies[0].text == replies[4].text
    assert all(reply.seconds > 0 and 0 <= reply.confidence <= 1 for reply in replies)


def test_regions_are_what_the_official_model_writes(asker: Asker) -> None:
    """The processor's own prompt, `generate` from pixels, and the boxes read by the definition."""
    picture = noise(3)
    reply = asker.ask(Page.open(encoded(picture), "page"), task="region_proposal")

    florence = asker.florence
    inputs = florence.processor(text="<REGION_PROPOSAL>", images=picture, return_tensors="pt")
    with torch.inference_mode():
        [ids] = florence.model.generate(
            **inputs,
            max_new_tokens=511,
            num_beams=1,
            do_sample=False,
            forced_bos_token_id=florence.text_encoder.bos,
        )
    text = florence.processor.decode(ids, skip_special_tokens=False)
    assert reply.text == text.replace("<s>", "").replace("</s>", "").strip()

    boxes = []
    for run in re.findall(r"(?:<loc_\d+>)+", text):
        places = [(int(place) + 0.5) * 64 / 1000 for place in re.findall(r"\d+", run)]
        boxes += [places[at : at + 4] for at in range(0, len(places) - 3, 4)]
    assert len(reply.regions) == len(boxes) > 0
    for region, box in zip(reply.regions, boxes, strict=True):
        assert region.box == pytest.approx(box)


def test_regions_lie_in_the_upright_picture(asker: Asker) -> None:
    picture = noise(4, (400, 64))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    page = Page.open(encoded(picture, "JPEG", exif=exif), "page")
    assert page.picture.size == (64, 400)
    regions = asker.ask(page, task="region_proposal").regions
    boxes = [region.box for region in regions if region.box is not None]
    assert boxes
    assert max(box[2] for box in boxes) <= 64 < max(box[3] for box in boxes) <= 400


def test_every_task_is_asked_as_it_needs(asker: Asker) -> None:
    page = Page.open(encoded(noise(5)), "page")
    questions = {name for name in asker.tasks if asker.reads_question(name)}
    assert questions == {
        *("vqa", "caption_to_phrase_grounding", "open_vocabulary_detection"),
        "referring_expression_segmentation",
    }
    assert {"ocr", "ocr_with_region", "od"} < set(asker.tasks)
    for name in asker.tasks:
        asker.ask(page, "a word" if name in questions else "", name)


@pytest.mark.parametrize(
    ("question", "task", "told"),
    [
        ("  ", "vqa", "an empty question"),
        ("What?", "od", "no place for the question 'What\\?'"),
        ("What?", "region_to_ocr", "the task 'region_to_ocr' is unknown here; known: vqa, caption"),
        ("why " * 200, "vqa", "a question of 8.. tokens; the model takes 507 beside the page"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    asker: Asker, question: str, task: str, told: str
) -> None:
    page = Page.open(encoded(noise(6)), "page")
    with pytest.raises(InputError, match=told) as raised:
        asker.ask(page, question, task)
    assert "\n" not in str(raised.value)


def test_a_page_of_too_many_pixels_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(noise(7, (40, 30)))
    assert Page.open(data, "scan.png", max_pixels=1200).picture.size == (40, 30)

    def loaded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PIL.Image.Image, "load", loaded)
    with pytest.raises(InputError, match=r"scan\.png: 40 x 30 pixels; up to 1,199 pixels"):
        Page.open(data, "scan.png", max_pixels=1199)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"GIF", lambda data: data[:500]])
def test_a_damaged_page_is_refused_in_a_sentence(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InputError, match=r"scan\.png: not an image that can be read") as raised:
        Page.open(damage(encoded(noise(8))), "scan.png")
    assert "\n" not in str(raised.value)


def test_regions_are_drawn_where_they_are() -> None:
    picture = PIL.Image.new("RGB", (800, 400), "white")
    drawn = draw_regions(
        picture,
        [
            Region(label="total", box=(100, 100, 300, 200)),
            Region(label="date", polygons=((500, 100, 700, 120, 690, 220, 490, 200),)),
            Region(label="total", box=(100, 300, 300, 380)),
            Region(polygons=((20, 20, 60, 20, 40, 60),)),
        ],
    )
    first, second, third = (PIL.Image.new("RGB", (1, 1), c).getpixel((0, 0)) for c in COLOURS[:3])
    assert drawn.getpixel((200, 100)) == drawn.getpixel((300, 150)) == first
    assert drawn.getpixel((200, 300)) == first
    assert drawn.getpixel((600, 110)) == drawn.getpixel((590, 210)) == second
    assert drawn.getpixel((40, 20)) == third
    assert drawn.getpixel((200, 150)) == drawn.getpixel((600, 160)) == (255, 255, 255)
    changed = np.asarray(drawn) != np.asarray(picture)
    assert changed[70:99, 101:140].any()  # the label, above its box
    assert not changed[230:270].any()
    assert not (np.asarray(picture) != 255).any()


def test_a_label_at_the_top_stays_in_the_picture() -> None:
    drawn = draw_regions(
        PIL.Image.new("RGB", (300, 300), "white"), [Region(label="top", box=(10, 2, 90, 290))]
    )
    plate = np.asarray(drawn)[3:12, 12:30]
    assert (plate != 255).any()


def test_more_tokens_than_the_decoder_has_positions_are_refused() -> None:
    with pytest.raises(InputError, match="max_new_tokens is 513; up to 512 is accepted"):
        Asker.load("tiny", max_new_tokens=513)
