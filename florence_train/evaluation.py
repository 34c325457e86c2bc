"""Evaluation while training: loss, and by generation the evaluator's metric, on the same pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from florence_data.images import decode
from florence_data.prompts import Example
from florence_eval import Scores, score
from florence_eval.metrics import Metric
from florence_train.batches import Group, PageReader, count_questions, pack
from florence_train.interruption import StopRequest
from florence_train.model import Florence, question_losses
from florence_train.predictor import answer, prediction_row
from florence_train.survey import Survey

SHOWN = 5
"""Answers that an evaluation shows beside their references."""

PICTURE = 512
"""Pixels of the longer side of a page that is shown."""


@dataclass(frozen=True)
class ShownAnswer:
    """An answer to look at: `picture` is the page, uint8 [H, W, 3], at most `PICTURE` pixels."""

    image: str
    question: str
    prediction: str
    reference: str
    picture: NDArray[np.uint8]

    def row(self) -> dict[str, str]:
        """The texts, for the log."""
        return {
            name: getattr(self, name) for name in ("image", "question", "prediction", "reference")
        }


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation pages say of a model.

    `loss` is per target token, of the first `max_target_tokens` of each answer; `score` is the mean
    of `metric` (named with its variant); `scores` are the evaluator's, with the table of every
    question; `shown` are some of the main process's answers.
    """

    loss: float
    metric: str
    score: float
    scores: Scores
    shown: list[ShownAnswer]

    def is_better_than(self, best: float | None) -> bool:
        """Whether the score is better than the best so far; None is none so far."""
        if best is None:
            return True
        lower_is_better = Metric.parse(self.scores.metrics[0]).lower_is_better
        return self.score < best if lower_is_better else self.score > best


def choose_documents(found: Survey, pages: int, seed: int) -> list[Group]:
    """The groups of whole documents, in a seeded order, until there are so many pages."""
    documents = sorted(found.documents)
    chosen: list[Group] = []
    for position in np.random.default_rng(seed).permutation(len(documents)):
        if len(chosen) >= pages:
            break
        chosen += found.documents[documents[position]]
    return chosen


@dataclass(frozen=True)
class Evaluator:
    """Evaluates on the same pages every time; each process answers its share of them."""

    reader: PageReader
    groups: list[Group]
    metric: str
    max_questions: int
    max_new_tokens: int

    @torch.inference_mode()
    @torch.compiler.set_stance("force_eager")  # type: ignore[untyped-decorator]
    def __call__(
        self, florence: Florence, accelerator: Accelerator, stop: StopRequest
    ) -> Evaluation | None:
        """Loss and score of the model as it is; None where a stop was asked for meanwhile. All
        processes call it and get the same."""
        mine = self.groups[accelerator.process_index :: accelerator.num_processes]
        questions = count_questions(mine)
        wanted = np.random.default_rng(0).permutation(questions)[:SHOWN] + 1
        florence.model.eval()
        grouped = florence.grouped
        loss, tokens, rows, shown = 0.0, 0, [], []
        for batch in self.reader.batches(pack(mine, self.max_questions)):
            if stop.made:
                break
            tokens += batch.target_tokens
            batch = batch.to(accelerator.device)
            with accelerator.autocast():
                loss += float(question_losses(grouped(batch), batch.labels).sum())
                answers = answer(florence, batch, num_beams=1, max_new_tokens=self.max_new_tokens)
            for example, (text, _) in zip(batch.examples, answers, strict=True):
                rows.append(prediction_row(example, text))
                if len(rows) in wanted:
                    shown.append(_shown(example, text))
        gathered = gather_object([(stop.made, loss, tokens, rows)])
        stops, losses, counts, parts = zip(*gathered, strict=True)
        if any(stops):
            return None
        scores = score(pd.DataFrame([row for part in parts for row in part]), metric=self.metric)
        return Evaluation(
            loss=sum(losses) / sum(counts),
            metric=scores.summary["headline"],
            score=scores.summary["score"]["mean"],
            scores=scores,
            shown=shown,
        )

    def page(self, image: str) -> bytes | None:
        """The encoded page of an evaluation's row, by the id that it has there."""
        for samples in self.reader.sets:
            try:
                return samples[image].image.read()
            except KeyError:
                continue
        return None


def _shown(example: Example, text: str) -> ShownAnswer:
    picture = decode(example.image.read(), f"sample {example.sample.id}")
    picture.thumbnail((PICTURE, PICTURE))
    return ShownAnswer(
        image=example.sample.id,
        question=example.supervision.question,
        prediction=text,
        reference=" | ".join(example.references),
        picture=np.asarray(picture),
    )
