"""A page in the browser to ask a model about pages, on this machine alone unless told otherwise."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import tyro

from florence_data import InputError, SampleSet


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
    from florence_train.browser import page_view

    asker = Asker.load(
        options.model, options.template, options.num_beams, options.max_new_tokens, options.seed
    )
    samples = SampleSet.from_shards(options.data) if options.data is not None else ()
    max_bytes = options.max_upload_mb * 2**20
    view = page_view(
        asker,
        [samples[position] for position in range(min(options.examples, len(samples)))],
        title=f"Ask {options.model}",
        max_bytes=max_bytes,
        max_pixels=options.max_megapixels * 1_000_000,
    )
    try:
        _, url, _ = view.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=max_bytes,
            # The fonts of gradio's own themes come from the network.
            theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
            footer_links=[],
            run_history=False,
            share=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"{options.host}:{options.port}: {error}; try another --port") from None
    print(f"{url} answers; Ctrl-C ends it", flush=True)
    view.block_thread()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"demo.py: {error}", file=sys.stderr)
        sys.exit(2)
