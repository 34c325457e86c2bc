"""The standard metric of each of The Cauldron's 50 subsets, for `metric="auto"`.

Keyed on the subset's name. Where the field's standard needs what a text alone does not give (a
program to execute, a probability, a rendered picture), the nearest metric of text stands in, and
the note says for what. `docs/evaluation.md` has the reasons.
"""

from __future__ import annotations

from typing import NamedTuple

from florence_eval.vqa import LEAST_ANSWERS


class Subset(NamedTuple):
    """A subset, the metric that `auto` scores it with, and what that stands in for."""

    name: str
    metric: str
    stands_for: str = ""


SUBSETS = {
    subset.name: subset
    for subset in (
        Subset("ai2d", "multiple_choice"),
        Subset("aokvqa", "multiple_choice"),
        Subset("chart2text", "cider", "BLEU, reported first there"),
        Subset("chartqa", "relaxed_accuracy"),
        Subset("clevr", "exact_match"),
        Subset("clevr_math", "exact_match"),
        Subset("cocoqa", "exact_match"),
        Subset("datikz", "nls", "CrystalBLEU and compile rate"),
        Subset("diagram_image_to_text", "nls", "no standard"),
        Subset("docvqa", "anls"),
        Subset("dvqa", "exact_match"),
        Subset("figureqa", "exact_match"),
        Subset("finqa", "exact_match+final_answer", "execution accuracy"),
        Subset("geomverse", "relaxed_accuracy+final_answer"),
        Subset("hateful_memes", "exact_match", "AUROC, which needs probabilities"),
        Subset("hitab", "exact_match+final_answer", "execution accuracy"),
        Subset("iam", "cer"),
        Subset("iconqa", "anls"),
        Subset("infographic_vqa", "anls"),
        Subset("intergps", "multiple_choice"),
        Subset("localized_narratives", "cider"),
        Subset("mapqa", "exact_match"),
        Subset("mimic_cgd", "cider", "no single standard"),
        Subset("multihiertt", "exact_match+final_answer", "EM, beside numeracy F1"),
        Subset("nlvr2", "exact_match"),
        Subset("ocrvqa", "exact_match"),
        Subset("okvqa", "vqa_accuracy"),
        Subset("plotqa", "relaxed_accuracy"),
        Subset("raven", "multiple_choice"),
        Subset("rendered_text", "cer"),
        Subset("robut_sqa", "exact_match", "denotation accuracy"),
        Subset("robut_wikisql", "exact_match", "denotation accuracy"),
        Subset("robut_wtq", "exact_match", "denotation accuracy"),
        Subset("scienceqa", "multiple_choice"),
        Subset("screen2words", "cider"),
        Subset("spot_the_diff", "cider"),
        Subset("st_vqa", "anls"),
        Subset("tabmwp", "exact_match+final_answer"),
        Subset("tallyqa", "exact_match"),
        Subset("tat_qa", "token_f1+final_answer", "numeracy F1, which also checks the scale"),
        Subset("textcaps", "cider"),
        Subset("textvqa", "vqa_accuracy+evalai"),
        Subset("tqa", "multiple_choice"),
        Subset("vistext", "cider", "BLEU and ROUGE"),
        Subset("visual7w", "multiple_choice"),
        Subset("visualmrc", "cider"),
        Subset("vqarad", "exact_match", "token recall of the open questions"),
        Subset("vqav2", "vqa_accuracy"),
        Subset("vsr", "exact_match"),
        Subset("websight", "nls", "visual similarity"),
    )
}


def standard_metric(source: str | None, answers: int) -> str:
    """The metric of a question from `source` with so many `answers`; ANLS for an unknown source.

    `source` is a subset's name, alone or after a slash ("cauldron/docvqa"). VQA accuracy needs the
    ten annotators' answers; of a question that kept fewer than four, a match with any is counted.
    """
    subset = SUBSETS.get(source.rpartition("/")[2].lower()) if source else None
    if subset is None:
        return "anls"
    if subset.metric.startswith("vqa_accuracy") and answers < LEAST_ANSWERS:
        return subset.metric + "+any_answer"
    return subset.metric
