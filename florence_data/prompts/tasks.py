"""The tasks that Florence-2 was pre-trained on, in both directions.

A `Task` is what the model reads (`prompt`, the sentence that transformers' `Florence2Processor`
puts in place of a task word such as `<OD>`) and the form in which it answers. `Form.encode` writes
an `Answer` as the model does, `Form.decode` reads one back by the rules of
`Florence2Processor.post_process_generation`. Where a label is not ASCII the processor drops its
characters; here they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from florence_data.errors import InputError
from florence_data.prompts.locations import Size, decode_points, encode_points, location_bin
from florence_data.prompts.text import END_POLY, POLY, SEP, Text, Token, split_tokens
from florence_data.sample import Image, Region, Supervision

QUESTION = "{question}"
REGION = "{region}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task asks for: text, or regions in pixels of the image."""

    text: str = ""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """How an answer is written and read back."""

    name: str
    encode: Callable[[Answer, Size], Text]
    decode: Callable[[Text, Size], Answer]


def _encode_text(answer: Answer, size: Size) -> Text:
    return (answer.text,) if answer.text else ()


def _decode_text(text: Text, size: Size) -> Answer:
    special = {"<s>", "</s>", "<pad>"}
    parts = (part if isinstance(part, str) else part.text for part in text)
    return Answer(text="".join(part for part in parts if part not in special).strip())


def _encode_labelled_boxes(answer: Answer, size: Size) -> Text:
    """`car` + 4 locations, `wheel` + 4 + 4: a label once, then all of its boxes."""
    return _by_label(answer, lambda region: encode_points(_box(region), size))


def _decode_labelled_boxes(text: Text, size: Size) -> Answer:
    return Answer(
        regions=tuple(
            Region(label=label, box=box)
            for label, tokens in _labelled_runs(text)
            if label
            for box in _boxes(tokens, size)
        )
    )


def _encode_boxes(answer: Answer, size: Size) -> Text:
    return tuple(token for region in answer.regions for token in encode_points(_box(region), size))


def _decode_boxes(text: Text, size: Size) -> Answer:
    return Answer(
        regions=tuple(
            Region(box=box) for _, tokens in _labelled_runs(text) for box in _boxes(tokens, size)
        )
    )


def _encode_quads(answer: Answer, size: Size) -> Text:
    """Each line of text, then the four corners of its quad, clockwise from the top left."""
    parts: list[str | Token] = []
    for region in answer.regions:
        parts += [_label(region), *encode_points(_quad(region), size)]
    return tuple(parts)


def _decode_quads(text: Text, size: Size) -> Answer:
    regions = []
    for label, tokens in _labelled_runs(text):
        bins = _bins(tokens)[:8]
        if label and len(bins) == 8:
            regions.append(Region(label=label, polygons=(decode_points(bins, size),)))
    return Answer(regions=tuple(regions))


def _encode_polygons(answer: Answer, size: Size) -> Text:
    """One region: its polygons with `<sep>` between. Several: each in `<poly>` … `</poly>`."""
    if len(answer.regions) == 1:
        return _polygon_tokens(answer.regions[0], size)
    return tuple(
        token
        for region in answer.regions
        for token in (POLY, *_polygon_tokens(region, size), END_POLY)
    )


def _decode_polygons(text: Text, size: Size) -> Answer:
    return Answer(
        regions=tuple(
            Region(polygons=polygons)
            for _, tokens in _labelled_runs(text)
            for polygons in _polygon_groups(tokens, size)
        )
    )


def _encode_boxes_or_polygons(answer: Answer, size: Size) -> Text:
    """Labelled boxes; polygons where no region has a box."""
    if any(region.box for region in answer.regions):
        return _encode_labelled_boxes(answer, size)
    return _by_label(answer, lambda region: (POLY, *_polygon_tokens(region, size), END_POLY))


def _decode_boxes_or_polygons(text: Text, size: Size) -> Answer:
    if POLY not in text:
        return _decode_labelled_boxes(text, size)
    return Answer(
        regions=tuple(
            Region(label=label, polygons=polygons)
            for label, tokens in _labelled_runs(text)
            if label
            for polygons in _polygon_groups(tokens, size)
        )
    )


TEXT = Form("text", _encode_text, _decode_text)
LABELLED_BOXES = Form("labelled boxes", _encode_labelled_boxes, _decode_labelled_boxes)
BOXES = Form("boxes", _encode_boxes, _decode_boxes)
QUADS = Form("quads", _encode_quads, _decode_quads)
POLYGONS = Form("polygons", _encode_polygons, _decode_polygons)
BOXES_OR_POLYGONS = Form("boxes or polygons", _encode_boxes_or_polygons, _decode_boxes_or_polygons)


@dataclass(frozen=True, slots=True)
class Task:
    """One thing a model can be asked.

    `prompt` holds `{question}` where the supervision's question goes, `{region}` where the box of
    its one region goes, or neither.
    """

    name: str
    prompt: str
    form: Form

    def prompt_text(self, image: Image, supervision: Supervision, question: str) -> Text:
        """What the model reads.

        Raises `InputError` if what the task needs is absent, or if there is a question that the
        task would ignore.
        """
        if QUESTION in self.prompt:
            before, _, after = self.prompt.partition(QUESTION)
            if not question:
                raise InputError(f"an empty question; the task {self.name} needs one")
            return (before + question + after,)
        if question:
            raise InputError(
                f"the task {self.name} has no place for the question {question!r}; "
                "leave it empty or choose a task that reads it"
            )
        if REGION in self.prompt:
            before, _, after = self.prompt.partition(REGION)
            if len(supervision.regions) != 1:
                raise InputError(
                    f"{len(supervision.regions)} regions; the task {self.name} asks about one"
                )
            box = encode_points(_box(supervision.regions[0]), (image.width, image.height))
            return (before, *box, after) if after else (before, *box)
        return (self.prompt,)

    def target_text(self, image: Image, supervision: Supervision, reference: str) -> Text:
        """What the model is taught to write: `reference` for a text task, else the regions.

        Empty if there is nothing to teach. Raises `InputError` for a region that cannot be written.
        """
        answer = Answer(text=reference, regions=supervision.regions)
        return self.form.encode(answer, (image.width, image.height))


TASKS = {
    task.name: task
    for task in (
        Task("caption", "What does the image describe?", TEXT),
        Task("detailed_caption", "Describe in detail what is shown in the image.", TEXT),
        Task(
            "more_detailed_caption", "Describe with a paragraph what is shown in the image.", TEXT
        ),
        Task("ocr", "What is the text in the image?", TEXT),
        Task("ocr_with_region", "What is the text in the image, with regions?", QUADS),
        Task("od", "Locate the objects with category name in the image.", LABELLED_BOXES),
        Task(
            "dense_region_caption",
            "Locate the objects in the image, with their descriptions.",
            LABELLED_BOXES,
        ),
        Task("region_proposal", "Locate the region proposals in the image.", BOXES),
        Task(
            "caption_to_phrase_grounding",
            "Locate the phrases in the caption: {question}",
            LABELLED_BOXES,
        ),
        Task(
            "referring_expression_segmentation",
            "Locate {question} in the image with mask",
            POLYGONS,
        ),
        Task("region_to_segmentation", "What is the polygon mask of region {region}", POLYGONS),
        Task("open_vocabulary_detection", "Locate {question} in the image.", BOXES_OR_POLYGONS),
        Task("region_to_category", "What is the region {region}?", TEXT),
        Task("region_to_description", "What does the region {region} describe?", TEXT),
        Task("region_to_ocr", "What text is in the region {region}?", TEXT),
    )
}
"""By name, which is the task word in lower case: `od` for `<OD>`."""


def find_task(name: str) -> Task:
    """The Florence-2 task of that name. Raises `InputError` if there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise InputError(f"the task {name!r} is unknown; known: vqa, {', '.join(TASKS)}") from None


def decode(task: str, generated: str | Text, size: Size) -> Answer:
    """What the model said, as text or as regions in pixels.

    `generated` is the decoded output, special tokens kept, or its parts; `size` is (width, height)
    of the image in pixels. What does not fit the task's form, such as a box cut off by the length
    limit, is left out. Raises `InputError` for an unknown task.
    """
    form = TEXT if task == "vqa" else find_task(task).form
    return form.decode(split_tokens(generated) if isinstance(generated, str) else generated, size)


def _label(region: Region) -> str:
    label = region.label.strip()
    if not label:
        raise InputError("a region without a label; this task writes the label of each")
    return label


def _box(region: Region) -> tuple[float, ...]:
    """The box of a region, or the one around its polygons."""
    if region.box is None and not any(region.polygons):
        raise InputError("a region without a box and without polygons")
    if region.box is None:
        xs = [x for polygon in region.polygons for x in polygon[0::2]]
        ys = [y for polygon in region.polygons for y in polygon[1::2]]
        return min(xs), min(ys), max(xs), max(ys)
    x1, y1, x2, y2 = region.box
    if x2 < x1 or y2 < y1:
        raise InputError(f"the box {region.box} is inside out; x1 ≤ x2 and y1 ≤ y2 is accepted")
    return region.box


def _quad(region: Region) -> tuple[float, ...]:
    """The region's first polygon if that has four corners, else its box."""
    if region.polygons and len(region.polygons[0]) == 8:
        return region.polygons[0]
    x1, y1, x2, y2 = _box(region)
    return x1, y1, x2, y1, x2, y2, x1, y2


def _polygon_tokens(region: Region, size: Size) -> Text:
    if not region.polygons:
        raise InputError("a region without polygons; this task writes them")
    tokens: list[str | Token] = []
    for polygon in region.polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise InputError(
                f"a polygon of {len(polygon)} numbers; x and y of at least three points is accepted"
            )
        tokens += [SEP, *encode_points(polygon, size)]
    return tuple(tokens[1:])


def _by_label(answer: Answer, encode_region: Callable[[Region], Text]) -> Text:
    """Each label once, in the order of first appearance, followed by its regions."""
    parts: dict[str, list[str | Token]] = {}
    for region in answer.regions:
        label = _label(region)
        parts.setdefault(label, [label]).extend(encode_region(region))
    return tuple(part for labelled in parts.values() for part in labelled)


def _labelled_runs(text: Text) -> Iterator[tuple[str, list[Token]]]:
    """Each run of tokens with the text before it."""
    label = ""
    for is_text, parts in groupby(text, key=lambda part: isinstance(part, str)):
        if is_text:
            label = "".join(part for part in parts if isinstance(part, str)).strip()
        else:
            yield label, [part for part in parts if isinstance(part, Token)]
            label = ""


def _bins(tokens: list[Token]) -> list[int]:
    return [place for token in tokens if (place := location_bin(token)) is not None]


def _boxes(tokens: list[Token], size: Size) -> Iterator[tuple[float, float, float, float]]:
    bins = _bins(tokens)
    for start in range(0, len(bins) - 3, 4):
        x1, y1, x2, y2 = decode_points(bins[start : start + 4], size)
        yield x1, y1, x2, y2


def _polygon_groups(tokens: list[Token], size: Size) -> Iterator[tuple[tuple[float, ...], ...]]:
    """The polygons of each region; fewer than three points are no polygon."""
    for is_boundary, region in groupby(tokens, key=lambda token: token in (POLY, END_POLY)):
        if is_boundary:
            continue
        polygons = []
        for is_sep, points in groupby(region, key=lambda token: token == SEP):
            bins = _bins(list(points))
            if not is_sep and len(bins) >= 6:
                polygons.append(decode_points(bins[: len(bins) // 2 * 2], size))
        if polygons:
            yield tuple(polygons)
