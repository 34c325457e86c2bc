"""How long an answer is for the model that has to write it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from florence_data.errors import InputError

CHARACTERS_A_TOKEN = 3
"""For GPT-2's byte-level BPE, which BART and Florence-2 share: measured 2.4 on receipts, 3.2 on
DocVQA answers, 3.3 on English Markdown and 2.5 on Python."""


@dataclass(frozen=True)
class TargetLimit:
    """The most tokens that an answer may have; zero means no limit.

    With a tokenizer (a `tokenizer.json`, its directory, or a name on the hub) tokens are counted;
    without one they are estimated from the number of characters.
    """

    tokens: int
    tokenizer: str | None = None

    def exceeded_by(self, answer: str) -> bool:
        """Whether the answer is too long. Raises `InputError` if the tokenizer cannot be read."""
        if not self.tokens:
            return False
        if self.tokenizer is None:
            return len(answer) > self.tokens * CHARACTERS_A_TOKEN
        encoding = _load_tokenizer(self.tokenizer).encode(answer, add_special_tokens=False)
        return len(encoding.ids) > self.tokens


@lru_cache(maxsize=4)
def _load_tokenizer(name: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise InputError(
            "--tokenizer needs the train extra: pip install 'florence-docs[train]'; without the "
            "flag, lengths are estimated"
        ) from None
    path = Path(name)
    try:
        if path.is_dir():
            return Tokenizer.from_file(str(path / "tokenizer.json"))
        return Tokenizer.from_file(name) if path.is_file() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises plain Exception
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{name}: no tokenizer can be read there ({reason}); a tokenizer.json, a directory "
            "that holds one, or a name on the hub is accepted"
        ) from None
