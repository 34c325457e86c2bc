"""Prompts and targets: every Florence-2 task in both directions.

A supervision becomes a prompt and a target by a `PromptTemplate`; a model's output becomes text or
regions by `decode`.
"""

from florence_data.prompts.tasks import TASKS, Answer, Task, decode
from florence_data.prompts.template import (
    TEMPLATES,
    Example,
    PromptTemplate,
    ReferenceChoice,
    prompt_template,
)
from florence_data.prompts.text import Text, Token, split_tokens

__all__ = [
    "TASKS",
    "TEMPLATES",
    "Answer",
    "Example",
    "PromptTemplate",
    "ReferenceChoice",
    "Task",
    "Text",
    "Token",
    "decode",
    "prompt_template",
    "split_tokens",
]
