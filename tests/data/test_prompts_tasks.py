"""Every Florence-2 task, written and read back, with transformers' own processor as the oracle."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from florence_data.errors import InputError
from florence_data.prompts import TASKS, Answer, Text, Token, decode, prompt_template, split_tokens
from florence_data.prompts.locations import decode_points, encode_points, location_bin
from florence_data.sample import Image, Region, Sample, Supervision

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

SIZE = (640, 480)
CAR = Region(label="car", box=(34.2, 160.1, 597.4, 371.8))
WHEELS = (
    Region(label="wheel", box=(454.0, 276.5, 553.0, 370.6)),
    Region(label="wheel", box=(96.0, 280.3, 198.0, 371.0)),
)
LINES = (
    Region(label="TOTAL 12.50", polygons=((10.0, 20.0, 110.0, 22.0, 109.0, 40.0, 9.0, 38.0),)),
    Region(label="5 < 7 & 8", polygons=((10.0, 50.0, 110.0, 50.0, 110.0, 70.0, 10.0, 70.0),)),
)
L_SHAPE = (10.0, 10.0, 300.0, 10.0, 300.0, 90.0, 90.0, 90.0, 90.0, 400.0, 10.0, 400.0)
TRIANGLE = (400.0, 300.0, 500.0, 300.0, 450.0, 420.0)

ROWS = {
    "caption": Supervision(id="q", task="caption", answers=("A green car.",)),
    "detailed_caption": Supervision(id="q", task="detailed_caption", answers=("A car, parked.",)),
    "more_detailed_caption": Supervision(
        id="q", task="more_detailed_caption", answers=("A car. It is green.",)
    ),
    "ocr": Supervision(id="q", task="ocr", answers=("TOTAL 12.50 THANK YOU",)),
    "ocr_with_region": Supervision(id="q", task="ocr_with_region", regions=LINES[:1]),
    "od": Supervision(id="q", task="od", regions=(CAR, *WHEELS)),
    "dense_region_caption": Supervision(
        id="q",
        task="dense_region_caption",
        regions=(Region(label="turquoise car by the wall", box=CAR.box),),
    ),
    "region_proposal": Supervision(
        id="q", task="region_proposal", regions=tuple(Region(box=r.box) for r in (CAR, *WHEELS))
    ),
    "caption_to_phrase_grounding": Supervision(
        id="q",
        task="caption_to_phrase_grounding",
        question="a car with two wheels",
        regions=(CAR, *WHEELS),
    ),
    "referring_expression_segmentation": Supervision(
        id="q",
        task="referring_expression_segmentation",
        question="the stamp",
        regions=(Region(polygons=(L_SHAPE, TRIANGLE)),),
    ),
    "region_to_segmentation": Supervision(
        id="q",
        task="region_to_segmentation",
        regions=(Region(box=(10.0, 10.0, 300.0, 400.0), polygons=(L_SHAPE,)),),
    ),
    "open_vocabulary_detection": Supervision(
        id="q", task="open_vocabulary_detection", question="wheel", regions=WHEELS
    ),
    "region_to_category": Supervision(
        id="q", task="region_to_category", answers=("car",), regions=(Region(box=CAR.box),)
    ),
    "region_to_description": Supervision(
        id="q", task="region_to_description", answers=("a car",), regions=(Region(box=CAR.box),)
    ),
    "region_to_ocr": Supervision(
        id="q", task="region_to_ocr", answers=("TOTAL",), regions=(Region(box=CAR.box),)
    ),
}


@pytest.fixture(scope="module")
def processor() -> transformers.Florence2Processor:
    """transformers' own Florence-2 processor over a byte vocabulary; nothing is downloaded."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>"]
    vocabulary = specials + sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={word: i for i, word in enumerate(vocabulary)}, merges=[])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = transformers.BartTokenizerFast(
        tokenizer_object=backend, extra_special_tokens={"image_token": "<image>"}
    )
    images = CLIPImageProcessorPil()
    images.image_seq_length = 1
    answer_types = (
        *("ocr", "phrase_grounding", "pure_text", "description_with_bboxes", "polygons", "bboxes"),
        *("description_with_polygons", "description_with_bboxes_or_polygons"),
    )
    return transformers.Florence2Processor(
        images, tokenizer, post_processor_config={name: {} for name in answer_types}
    )


def sample_with(supervision: Supervision) -> Sample:
    image = Image(width=SIZE[0], height=SIZE[1], format="png", sha256="0" * 64)
    return Sample(
        id="s", source="t", split="train", doc_id="d", image=image, supervisions=(supervision,)
    )


def as_string(text: Text) -> str:
    return "".join(part if isinstance(part, str) else part.text for part in text)


def in_processor_form(task: str, answer: Answer) -> object:
    """An answer as `post_process_generation` would return it, before it cuts to whole pixels."""
    boxes = [list(region.box) for region in answer.regions if region.box]
    polygons = [[list(polygon) for polygon in region.polygons] for region in answer.regions]
    labels = [region.label for region in answer.regions]
    form = TASKS[task].form.name
    if form == "text":
        return answer.text
    if form == "quads":
        return {"quad_boxes": [polygon for region in polygons for polygon in region]} | {
            "labels": labels
        }
    if form == "polygons":
        return {"polygons": polygons, "labels": labels}
    if form == "boxes or polygons" and boxes:
        return {"bboxes": boxes, "bboxes_labels": labels, "polygons": [], "polygons_labels": []}
    if form == "boxes or polygons":
        return {
            "bboxes": [],
            "bboxes_labels": [],
            "polygons": [p for p in polygons if p],
            "polygons_labels": labels,
        }
    return {"bboxes": boxes, "labels": labels}


def assert_same_to_the_pixel(ours: object, theirs: object) -> None:
    """The same structure; each of our numbers is theirs before the cut to whole pixels."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict) and ours.keys() == theirs.keys()
        for key in theirs:
            assert_same_to_the_pixel(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same_to_the_pixel(mine, other)
    elif isinstance(theirs, str):
        assert ours == theirs
    else:
        assert -1e-3 <= ours - theirs < 1 + 1e-3


def test_every_task_of_the_processor_is_there_and_no_other(processor) -> None:
    words = processor.task_prompts_without_inputs | processor.task_prompts_with_input
    assert {f"<{name.upper()}>" for name in TASKS} == set(words)
    assert set(ROWS) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_the_prompt_is_the_one_the_processor_makes(processor, task: str) -> None:
    row = ROWS[task]
    example = prompt_template("docvqa").example(sample_with(row), row)
    given = row.question
    if "{region}" in TASKS[task].prompt:
        given = as_string(encode_points(row.regions[0].box, SIZE))
    assert processor._construct_prompts(f"<{task.upper()}>{given}") == [as_string(example.prompt)]


@pytest.mark.parametrize("task", TASKS)
def test_what_is_taught_reads_back_as_the_processor_reads_it(processor, task: str) -> None:
    target = prompt_template("docvqa").example(sample_with(ROWS[task]), ROWS[task]).target
    generated = f"</s><s>{as_string(target)}</s><pad>"
    word = f"<{task.upper()}>"
    theirs = processor.post_process_generation(generated, task=word, image_size=SIZE)[word]
    if isinstance(theirs, str):
        theirs = theirs.replace("<pad>", "")
    assert_same_to_the_pixel(in_processor_form(task, decode(task, generated, SIZE)), theirs)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_back_is_what_was_taught_to_half_a_bin(task: str) -> None:
    row = ROWS[task]
    target = prompt_template("docvqa").example(sample_with(row), row).target
    answer = decode(task, target, SIZE)
    if TASKS[task].form.name == "text":
        assert answer.text == row.answers[0]
        return
    half_bin = max(SIZE) / 1000 / 2 + 1e-9
    assert len(answer.regions) == len(row.regions)
    for found, taught in zip(answer.regions, row.regions, strict=True):
        if found.box:
            assert found.box == pytest.approx(taught.box, abs=half_bin)
        for ours, theirs in zip(found.polygons, taught.polygons, strict=True):
            assert ours == pytest.approx(theirs, abs=half_bin)
        if task != "region_proposal":
            assert found.label == taught.label


def test_detection_writes_each_label_once_as_the_released_model_does() -> None:
    """`car` + 4, `door handle` + 4, `wheel` + 4 + 4 is transformers' own integration test."""
    row = ROWS["od"]
    target = prompt_template("docvqa").example(sample_with(row), row).target
    assert [part for part in target if isinstance(part, str)] == ["car", "wheel"]
    assert len(target) == 2 + 4 + 8


def test_a_detection_of_the_released_model_reads_as_four_boxes(processor) -> None:
    generated = (
        "</s><s>car<loc_53><loc_333><loc_933><loc_774>door handle<loc_425><loc_503><loc_474>"
        "<loc_515>wheel<loc_709><loc_576><loc_865><loc_772><loc_150><loc_584><loc_309><loc_773></s>"
    )
    answer = decode("od", generated, SIZE)
    assert [region.label for region in answer.regions] == ["car", "door handle", "wheel", "wheel"]
    theirs = processor.post_process_generation(generated, task="<OD>", image_size=SIZE)["<OD>"]
    assert_same_to_the_pixel(in_processor_form("od", answer), theirs)


def test_several_masks_and_open_vocabulary_masks_read_as_the_processor_reads_them(
    processor,
) -> None:
    masks = (
        Region(label="stamp", polygons=(L_SHAPE, TRIANGLE)),
        Region(label="stamp", polygons=(TRIANGLE,)),
    )
    for task in ("referring_expression_segmentation", "open_vocabulary_detection"):
        row = Supervision(id="q", task=task, question="stamp", regions=masks)
        target = prompt_template("docvqa").example(sample_with(row), row).target
        generated = as_string(target)
        word = f"<{task.upper()}>"
        theirs = processor.post_process_generation(generated, task=word, image_size=SIZE)[word]
        answer = decode(task, target, SIZE)
        assert [len(region.polygons) for region in answer.regions] == [2, 1]
        assert_same_to_the_pixel(in_processor_form(task, answer), theirs)


@pytest.mark.parametrize(
    "task", ["od", "region_proposal", "ocr_with_region", "caption_to_phrase_grounding"]
)
def test_an_output_cut_off_anywhere_reads_as_the_processor_reads_it(processor, task: str) -> None:
    target = prompt_template("docvqa").example(sample_with(ROWS[task]), ROWS[task]).target
    word = f"<{task.upper()}>"
    for end in range(len(target) + 1):
        generated = as_string(target[:end])
        theirs = processor.post_process_generation(generated, task=word, image_size=SIZE)[word]
        assert_same_to_the_pixel(in_processor_form(task, decode(task, generated, SIZE)), theirs)


def test_an_unfinished_polygon_of_two_points_is_left_out() -> None:
    generated = "<loc_1><loc_1><loc_9><loc_1><loc_9><loc_9><sep><loc_5><loc_5><loc_6><loc_6>"
    answer = decode("region_to_segmentation", generated, (1000, 1000))
    assert [region.polygons for region in answer.regions] == [((1.5, 1.5, 9.5, 1.5, 9.5, 9.5),)]


def test_a_label_that_is_not_ascii_or_looks_like_markup_survives_between_the_parts() -> None:
    labels = ["Grüße", "合計", "<loc_5>", "<poly>", "a < b", "</s>"]
    regions = tuple(Region(label=label, box=(1.0, 2.0, 30.0, 40.0)) for label in labels)
    for task in ("od", "ocr_with_region"):
        row = Supervision(id="q", task=task, regions=regions)
        target = prompt_template("docvqa").example(sample_with(row), row).target
        assert [region.label for region in decode(task, target, SIZE).regions] == labels


def test_a_quad_is_written_from_four_corners_or_from_the_box() -> None:
    quad = (10.0, 12.0, 110.0, 10.0, 111.0, 30.0, 11.0, 32.0)
    slanted, upright = Region(label="a", polygons=(quad,)), Region(label="b", box=(1, 2, 30, 40))
    row = Supervision(id="q", task="ocr_with_region", regions=(slanted, upright))
    target = prompt_template("docvqa").example(sample_with(row), row).target
    assert target[1:9] == encode_points(quad, SIZE)
    assert target[10:] == encode_points((1, 2, 30, 2, 30, 40, 1, 40), SIZE)


def test_a_region_without_a_box_is_boxed_by_its_polygons() -> None:
    row = Supervision(
        id="q", task="od", regions=(Region(label="stamp", polygons=(L_SHAPE, TRIANGLE)),)
    )
    target = prompt_template("docvqa").example(sample_with(row), row).target
    assert target[1:] == encode_points((10.0, 10.0, 500.0, 420.0), SIZE)


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    points=st.lists(st.tuples(st.floats(-50, 5100), st.floats(-50, 5100)), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=60)
def test_bins_are_those_of_the_processors_own_quantiser(width, height, points) -> None:
    from transformers.models.florence2.processing_florence2 import Florence2PostProcessor

    class NoSpecials:
        all_special_tokens: tuple[str, ...] = ()

    oracle = Florence2PostProcessor({}, NoSpecials())
    expected = oracle.quantize(torch.tensor(points, dtype=torch.float64), (width, height))
    tokens = encode_points([value for point in points for value in point], (width, height))
    assert [location_bin(token) for token in tokens] == expected.flatten().tolist()


@given(bins=st.lists(st.integers(0, 999), min_size=2, max_size=8), width=st.integers(1, 5000))
def test_a_bins_centre_falls_in_the_same_bin_again(bins: list[int], width: int) -> None:
    size = (width, 768)
    again = encode_points(decode_points(bins, size), size)
    assert [location_bin(token) for token in again] == bins


def test_markup_is_found_only_where_a_token_stands() -> None:
    assert split_tokens("a<loc_5><loc_x><OCR></poly>b") == (
        *("a", Token("<loc_5>"), "<loc_x><OCR>", Token("</poly>"), "b"),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Supervision(id="q", task="od", regions=(Region(box=(0, 0, 1, 1)),)), "without a label"),
        (
            Supervision(id="q", task="od", regions=(Region(label="a", box=(9, 0, 1, 1)),)),
            "inside out",
        ),
        (
            Supervision(id="q", task="od", regions=(Region(label="a", box=(0, 0, 1, math.nan)),)),
            "nan",
        ),
        (Supervision(id="q", task="od", regions=(Region(label="a"),)), "without a box"),
        (
            Supervision(id="q", task="region_to_segmentation", regions=(Region(box=(0, 0, 1, 1)),)),
            "without polygons",
        ),
        (
            Supervision(
                id="q", task="region_to_segmentation", regions=(Region(polygons=((1, 2, 3, 4),)),)
            ),
            "three points",
        ),
        (Supervision(id="q", task="region_to_ocr", answers=("x",)), "0 regions"),
        (Supervision(id="q", task="caption", question="of what?", answers=("x",)), "no place"),
        (Supervision(id="q", task="open_vocabulary_detection"), "empty question"),
        (Supervision(id="q", task="OD"), "unknown; known: vqa, caption"),
    ],
)
def test_a_supervision_that_its_task_cannot_use_is_refused_by_name(row, message) -> None:
    with pytest.raises(InputError, match=message):
        prompt_template("docvqa").example(sample_with(row), row)


def test_tasks_travel_to_worker_processes() -> None:
    assert pickle.loads(pickle.dumps(TASKS)) == TASKS
