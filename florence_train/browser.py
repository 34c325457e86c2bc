"""The page in the browser where a model is asked; needs gradio (extra `demo`).

Everything that a model or a data set wrote is shown in fields that take it as text.
"""

from __future__ import annotations

import html
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import PIL.Image

from florence_data import InputError, Sample, images
from florence_train.asking import Asker, Page, Reply
from florence_train.drawing import draw_regions

SHOWN = 1600
"""Pixels of the longer side of a page as the browser gets it."""

THUMBNAIL = (160, 160)

COLUMNS = ("question", "answer", "confidence", "seconds", "page", "expected")
"""Of the table of what was asked."""


@contextmanager
def sentences() -> Iterator[None]:
    """Tells an error as a sentence and goes on behind the block.

    One that was not foreseen goes to the terminal in full.
    """
    sentence = ""
    try:
        yield
    except InputError as error:
        sentence = str(error)
    except Exception:
        traceback.print_exc()
        sentence = "This did not work; the terminal that the demo runs in says why."
    if sentence:  # the browser takes it for HTML
        gr.Warning(html.escape(sentence), duration=15)


def page_view(
    asker: Asker, samples: Sequence[Sample], title: str, max_bytes: int, max_pixels: int
) -> gr.Blocks:
    """What the browser shows, and what happens when it is used.

    `samples` are pages to pick from, `title` stands above; an uploaded file has at most `max_bytes`
    bytes, a page `max_pixels` pixels.
    """

    no_page = [None, {}, None, gr.Dropdown(choices=[], value=None, visible=False), "", "", []]

    def opened(data: bytes, name: str, expected: dict[str, str]) -> list[Any]:
        page = Page.open(data, name, max_pixels)
        known = gr.Dropdown(choices=list(expected), value=None, visible=bool(expected))
        return [page, expected, shown(page.picture), known, "", "", []]

    def upload(path: str | None) -> list[Any]:
        if path is None:
            return no_page
        with sentences():
            return opened(Path(path).read_bytes(), Path(path).name, {})
        return no_page

    def pick(event: gr.SelectData) -> list[Any]:
        sample = samples[event.index]
        expected = {
            asked.question: " | ".join(asked.answers)
            for asked in sample.supervisions
            if asked.task == "vqa"
        }
        with sentences():
            return opened(sample.image.read(), sample.id, expected)
        return no_page

    def ask(
        page: Page | None, task: str, question: str, expected: dict[str, str], table: list[Any]
    ) -> list[Any]:
        with sentences():
            if page is None:
                raise InputError("There is no page yet; upload one or pick one first.")
            asked = question.strip() if asker.reads_question(task) else ""
            reply = asker.ask(page, asked, task)
            picture = draw_regions(page.picture, reply.regions) if reply.regions else page.picture
            row = [
                asked if task == "vqa" else f"{task} {asked}".strip(),
                said(reply),
                f"{reply.confidence:.1%}",
                f"{reply.seconds:.2f}",
                "encoded" if reply.encoded else "reused",
                expected.get(asked, ""),
            ]
            return [said(reply), measures(reply), shown(picture), [row, *table]]
        return ["", "", gr.skip(), gr.skip()]

    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        page, expected = gr.State(None), gr.State({})
        gr.Markdown(f"# {title}")
        with gr.Row():
            with gr.Column(scale=3):
                file = gr.File(
                    label=f"A page: an image of up to {max_bytes / 2**20:.0f} MB",
                    file_types=["image"],
                    type="filepath",
                    height=120,
                    elem_id="file",
                )
                gallery = gr.Gallery(
                    [thumbnail(sample) for sample in samples],
                    label="Or one of these",
                    columns=6,
                    height=190,
                    allow_preview=False,
                    buttons=[],
                    visible=bool(samples),
                    elem_id="gallery",
                )
                view = gr.Image(
                    label="The page",
                    interactive=False,
                    format="jpeg",
                    height=720,
                    buttons=["download", "fullscreen"],
                    elem_id="view",
                )
            with gr.Column(scale=2):
                known = gr.Dropdown(
                    label="Questions that come with this page", visible=False, elem_id="known"
                )
                task = gr.Dropdown(list(asker.tasks), value="vqa", label="Task", elem_id="task")
                question = gr.Textbox(label="Question", max_length=2000, elem_id="question")
                button = gr.Button("Ask", variant="primary", elem_id="ask")
                text = gr.Textbox(label="Answer", interactive=False, elem_id="answer")
                facts = gr.Textbox(label="How sure, how fast", interactive=False, elem_id="facts")
        table = gr.Dataframe(
            headers=list(COLUMNS),
            type="array",
            label="Asked of this page, the latest first",
            interactive=False,
            wrap=True,
            column_widths=["26%", "32%", "10%", "8%", "9%", "15%"],
            elem_id="table",
        )
        new_page = [page, expected, view, known, text, facts, table]
        private: dict[str, Any] = {"api_visibility": "private"}
        file.upload(upload, file, new_page, **private)
        file.clear(upload, file, new_page, **private)
        gallery.select(pick, None, new_page, **private)
        known.input(lambda chosen: (chosen, "vqa"), known, [question, task], **private)
        task.change(
            lambda chosen: gr.Textbox(interactive=asker.reads_question(chosen)),
            task,
            question,
            **private,
        )
        gr.on(
            [button.click, question.submit],
            ask,
            [page, task, question, expected, table],
            [text, facts, view, table],
            **private,
        )
    return blocks


def said(reply: Reply) -> str:
    """The answer for people: of regions, their labels."""
    if not reply.regions:
        return reply.text
    return "\n".join(region.label or "(no label)" for region in reply.regions)


def measures(reply: Reply) -> str:
    """Confidence and time in words."""
    page = "page encoded" if reply.encoded else "page's features reused"
    return f"confidence {reply.confidence:.1%}, {reply.seconds:.2f} s, {page}"


def shown(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture at the size for the browser."""
    small = picture.copy()
    small.thumbnail((SHOWN, SHOWN))
    return small


def thumbnail(sample: Sample) -> PIL.Image.Image:
    """A small picture of a page."""
    picture = images.upright(sample.image.read(), sample.id, THUMBNAIL).convert("RGB")
    picture.thumbnail(THUMBNAIL)
    return picture
