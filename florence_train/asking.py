"""Questions about a page, asked one at a time, as a person does who has a model before them.

The page is encoded for its first question; what is asked of it next finds its features there.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import PIL.Image
import torch
from torch import Tensor

from florence_data import Image, InputError, Region, Supervision, images
from florence_data.prompts import TASKS, PromptTemplate, Task, decode, prompt_template
from florence_data.prompts.tasks import QUESTION, REGION, TEXT
from florence_train.attention import set_attention
from florence_train.batches import Batch
from florence_train.feature_cache import tower_features
from florence_train.model import Florence, load_florence, resolve_template
from florence_train.predictor import answer

MAX_PIXELS = 50_000_000
"""Of a page that is opened: A3 at 400 pixels an inch, 150 MB as RGB."""


@dataclass(frozen=True)
class Page:
    """An encoded image, and the upright RGB picture that it holds."""

    image: Image
    picture: PIL.Image.Image

    @classmethod
    def open(cls, data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Page:
        """The page in the bytes of an image file; `name` stands for it in error messages.

        Raises `InputError` if it is no image, a damaged one, or one of more pixels, which is known
        before it is decoded.
        """
        try:
            with PIL.Image.open(io.BytesIO(data)) as header:
                width, height = header.size
        except images.FAILURES as error:
            raise images.unreadable(data, name, error) from None
        if width * height > max_pixels:
            raise InputError(
                f"{name}: {width} x {height} pixels; up to {max_pixels:,} pixels are accepted"
            )
        return cls(Image.from_bytes(data, name), images.decode(data, name))


@dataclass(frozen=True)
class Reply:
    """What a model says to a question.

    `text` is what it wrote, location tokens included; `regions` are those, in pixels of the page's
    picture; `confidence` is the probability, 0 to 1, that it gives to exactly this text. `encoded`
    says whether the page was encoded for it, `seconds` is the time for all of it.
    """

    text: str
    regions: tuple[Region, ...]
    confidence: float
    seconds: float
    encoded: bool


class Asker:
    """A model that is asked about pages. It keeps the features of the last one.

    `tasks` are what it can be asked, `vqa` first, as its template puts it: the tasks of
    `florence_data.prompts.TASKS`, but for those about one region. Answers to `vqa` have at most
    `max_new_tokens` tokens; other tasks may fill the decoder.
    """

    def __init__(
        self,
        florence: Florence,
        template: PromptTemplate,
        num_beams: int = 1,
        max_new_tokens: int = 64,
    ) -> None:
        self.florence = florence
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tasks = {"vqa": Task("vqa", template.format, TEXT)} | {
            name: task for name, task in TASKS.items() if REGION not in task.prompt
        }
        florence.model.to(self.device).eval()
        set_attention(florence.model, "sdpa")
        self._last: tuple[str, Tensor] | None = None

    @classmethod
    def load(
        cls,
        model: str,
        template: str | None = None,
        num_beams: int = 1,
        max_new_tokens: int = 64,
        seed: int = 0,
    ) -> Asker:
        """Load what `load_florence` loads.

        Raises `InputError` as it and `resolve_template` do, and for more new tokens than fit.
        """
        florence = load_florence(model, seed)
        florence.refuse_longer(max_new_tokens=max_new_tokens)
        resolved = prompt_template(resolve_template(florence.template, template))
        return cls(florence, resolved, num_beams, max_new_tokens)

    def reads_question(self, task: str) -> bool:
        """Whether the task needs a question (or a phrase, or a caption) beside the page."""
        return QUESTION in self.tasks[task].prompt

    def ask(self, page: Page, question: str = "", task: str = "vqa") -> Reply:
        """The answer to a question, or to a task, about a page.

        Raises `InputError` for an unknown task, for a question that is missing, too long for the
        model, or given to a task that has no place for it.
        """
        began = time.perf_counter()
        prompts = torch.tensor([self._prompt(page, question, task)])
        features, encoded = self._features(page)
        batch = Batch(
            pixels=features.new_empty((0, 3, 0, 0)),
            stored=features,
            page=torch.zeros(1, dtype=torch.long),
            prompts=prompts,
            prompt_mask=torch.ones_like(prompts),
            labels=prompts.new_empty((1, 0)),
            examples=(),
        )
        [(text, confidence)] = answer(
            self.florence, batch.to(self.device), self.num_beams, self._longest(task)
        )
        return Reply(
            text=text,
            regions=decode(task, text, page.picture.size).regions,
            confidence=confidence,
            seconds=time.perf_counter() - began,
            encoded=encoded,
        )

    def _prompt(self, page: Page, question: str, task: str) -> list[int]:
        if task not in self.tasks:
            raise InputError(f"the task {task!r} is unknown here; known: {', '.join(self.tasks)}")
        asked = Supervision(id="", task=task, question=question)
        text = self.tasks[task].prompt_text(page.image, asked, question.strip())
        ids = self.florence.text_encoder.encode(text)
        limit = self.florence.max_prompt_tokens
        if len(ids) > limit:
            raise InputError(
                f"a question of {len(ids)} tokens; the model takes {limit} beside the page"
            )
        return ids

    @torch.inference_mode()
    def _features(self, page: Page) -> tuple[Tensor, bool]:
        """The tower's output for the page, [1, C, H, W], and whether it was made just now."""
        last = self._last
        if last is not None and last[0] == page.image.sha256:
            return last[1], False
        size = self.florence.image_size
        pixels = torch.from_numpy(images.pixels(page.image.read(), size, "the page"))
        features = tower_features(self.florence.model, pixels[None].to(self.device))
        self._last = (page.image.sha256, features)
        return features, True

    def _longest(self, task: str) -> int:
        if task == "vqa":
            return self.max_new_tokens
        return self.florence.max_target_tokens - 1
