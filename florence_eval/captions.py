"""CIDEr for captions, by the published package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module

from florence_eval.errors import InputError

_TOKEN = re.compile(r"\w+(?:[.,]\d+)*(?:'\w+)?")


def cider(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each of N captions against its references, from 0 to 10; its mean is the corpus's.

    A corpus metric: words are weighted by how rare they are among all N references, so a question's
    value depends on the others, and of one question alone it is 0. Computed by `pycocoevalcap`
    (Vedantam et al., "CIDEr", CVPR 2015). Captions are lower-cased words without punctuation; the
    original runs Stanford's tokenizer (Java), which parts a few contractions otherwise. Raises
    `InputError` where the package is not installed.
    """
    try:
        scorers = import_module("pycocoevalcap.cider.cider_scorer")
    except ImportError:
        raise InputError(
            "metric: cider needs the package pycocoevalcap; install florence-docs[metrics]"
        ) from None
    scorer = scorers.CiderScorer(n=4, sigma=6.0)
    for prediction, references in zip(predictions, answers, strict=True):
        scorer += (caption_words(prediction), list(map(caption_words, references)))
    _, each = scorer.compute_score()
    return [float(value) for value in each]


def caption_words(caption: str) -> str:
    """What `cider` counts of a caption: its words in lower case, parted by spaces."""
    return " ".join(_TOKEN.findall(caption.lower()))
