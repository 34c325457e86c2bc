"""A page in the browser to ask a model about pages, on this machine alone unless told otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from florence_data import InputError, Sample, SampleSet, images

if TYPE_CHECKING:
    import gradio

    from florence_train.asking import Asker, Page, Reply

SHOWN = 1600
"""Pixels of the longer side of a page as the browser gets it."""

COLUMNS = ("question", "answer", "confidence", "seconds", "page", "expected")
"""Of the table of what was asked."""


@dataclass(frozen=True)
class Options:
    """Ask a model about pages in the browser."""

    model: str
    """tiny, a run's or a checkpoint's directory, or a checkpoint of the hub."""
    data: str | None = None
    """Directory of shards to pick pages and questions from."""
    examples: int = 24
    """So many pages of --data to pick from."""
    template: str | None = None
    """Prompt template; by default, and at most, the one that the model was trained with."""
    num_beams: int = 1
    """Beams; 1 is greedy."""
    max_new_tokens: int = 64
    """Longest answer to a question in tokens."""
    seed: int = 0
    """Seed of the untrained weights of the model tiny."""
    host: str = "127.0.0.1"
    """The address to listen at; the default is reached from this machine only."""
    port: int = 7860
    """The port to listen at."""
    max_upload_mb: int = 20
    """Megabytes of the largest file that is taken."""
    max_megapixels: int = 50
    """Millions of pixels of the largest page that is taken."""


def page_view(asker: Asker, samples: list[Sample], options: Options) -> gradio.Blocks:
    """What the browser shows, and what happens when it is used."""
    import gradio as gr

    from florence_train.asking import Page
    from florence_train.drawing import draw_regions

    @contextmanager
    def sentences() -> Iterator[None]:
        """An error as a sentence in the browser; what is no `InputError` is told to the terminal."""
        try:
            yield
        except InputError as error:
            raise gr.Error(f"{error}", duration=None, print_exception=False) from None
        except Exception as error:
            print(f"demo.py: {type(error).__name__}: {error}", file=sys.stderr)
            raise gr.Error(
                "This did not work; the terminal that runs demo.py says why.", print_exception=False
            ) from None

    def opened(data: bytes, name: str, expected: dict[str, str]) -> list[Any]:
        page = Page.open(data, name, options.max_megapixels * 1_000_000)
        known = gr.Dropdown(choices=list(expected), value=None, visible=bool(expected))
        return [page, expected, shown(page.picture), known, "", "", []]

    def upload(path: str | None) -> list[Any]:
        if path is None:
            return [None, {}, None, gr.Dropdown(choices=[], value=None, visible=False), "", "", []]
        with sentences():
            return opened(Path(path).read_bytes(), Path(path).name, {})

    def pick(event: gr.SelectData) -> list[Any]:
        with sentences():
            sample = samples[event.index]
            expected = {
                asked.question: " | ".join(asked.answers)
                for asked in sample.supervisions
                if asked.task == "vqa"
            }
            return opened(sample.image.read(), sample.id, expected)

    def ask(
        page: Page | None, task: str, question: str, expected: dict[str, str], table: list[Any]
    ) -> list[Any]:
        with sentences():
            if page is None:
                raise InputError("There is no page yet; upload one or pick one first.")
            asked = question if asker.reads_question(task) else ""
            reply = asker.ask(page, asked, task)
            told = said(reply)
            row = [
                asked if task == "vqa" else f"{task} {asked}".strip(),
                told,
                f"{reply.confidence:.1%}",
                f"{reply.seconds:.2f}",
                "encoded" if reply.encoded else "reused",
                expected.get(asked, ""),
            ]
            picture = draw_regions(page.picture, reply.regions) if reply.regions else page.picture
            return [told, measures(reply), shown(picture), [row, *table]]

    with gr.Blocks(title="Ask a page", analytics_enabled=False) as blocks:
        page, expected = gr.State(None), gr.State({})
        gr.Markdown(f"# Ask a page\nModel: `{options.model}`")
        with gr.Row():
            with gr.Column(scale=3):
                file = gr.File(
                    label=f"A page: an image of up to {options.max_upload_mb} MB",
                    file_types=["image"],
                    type="filepath",
                    height=120,
                    elem_id="file",
                )
                gallery = gr.Gallery(
                    [(thumbnail(sample), sample.id) for sample in samples],
                    label="Or one of these",
                    columns=6,
                    height=190,
                    allow_preview=False,
                    visible=bool(samples),
                    elem_id="gallery",
                )
                view = gr.Image(
                    label="The page", interactive=False, format="jpeg", height=720, elem_id="view"
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


def shown(picture: Any) -> Any:
    """The picture at the size for the browser."""
    small = picture.copy()
    small.thumbnail((SHOWN, SHOWN))
    return small


def thumbnail(sample: Sample) -> Any:
    """A small picture of a page."""
    picture = images.upright(sample.image.read(), sample.id, at_least=(160, 160)).convert("RGB")
    picture.thumbnail((160, 160))
    return picture


def main(arguments: list[str]) -> None:
    """Parse, load and serve until interrupted."""
    options = tyro.cli(Options, args=arguments, prog="demo.py")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads it
    try:
        import gradio as gr
    except ModuleNotFoundError:
        raise InputError(
            "gradio is not installed; pip install 'florence-docs[demo]' brings it"
        ) from None
    from florence_train.asking import Asker  # after parsing: this import loads torch

    asker = Asker.load(
        options.model, options.template, options.num_beams, options.max_new_tokens, options.seed
    )
    samples = SampleSet.from_shards(options.data) if options.data is not None else ()
    examples = [samples[position] for position in range(min(options.examples, len(samples)))]
    try:
        page_view(asker, examples, options).launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=options.max_upload_mb * 1_000_000,
            # The fonts of gradio's own themes come from the network.
            theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
            footer_links=[],
            run_history=False,
            share=False,
            ssr_mode=False,
        )
    except OSError as error:
        raise InputError(f"{options.host}:{options.port}: {error}; try another --port") from None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        sys.exit(2)
