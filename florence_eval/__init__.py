"""Scores for document questions: exact metrics, a table of every question, categories of error,
statistics over documents. Imports neither torch nor the project's other packages, and nothing
before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from florence_eval.captions import cider
    from florence_eval.categories import CATEGORIES
    from florence_eval.choices import multiple_choice
    from florence_eval.comparison import Comparison, compare
    from florence_eval.error_report import report
    from florence_eval.errors import InputError
    from florence_eval.relaxed import relaxed_accuracy
    from florence_eval.scores import Scores, score
    from florence_eval.similarity import Variant, anls, nls
    from florence_eval.structured import anls_star
    from florence_eval.text_metrics import cer, exact_match, token_f1, wer
    from florence_eval.vqa import vqa_accuracy

_MODULES = {
    "captions": ("cider",),
    "categories": ("CATEGORIES",),
    "choices": ("multiple_choice",),
    "comparison": ("Comparison", "compare"),
    "error_report": ("report",),
    "errors": ("InputError",),
    "relaxed": ("relaxed_accuracy",),
    "scores": ("Scores", "score"),
    "similarity": ("Variant", "anls", "nls"),
    "structured": ("anls_star",),
    "text_metrics": ("cer", "exact_match", "token_f1", "wer"),
    "vqa": ("vqa_accuracy",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CATEGORIES",
    "Comparison",
    "InputError",
    "Scores",
    "Variant",
    "anls",
    "anls_star",
    "cer",
    "cider",
    "compare",
    "exact_match",
    "multiple_choice",
    "nls",
    "relaxed_accuracy",
    "report",
    "score",
    "token_f1",
    "vqa_accuracy",
    "wer",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
