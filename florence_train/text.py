"""Text to token ids and back, with text that is data kept apart from the model's own tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from florence_data import InputError
from florence_data.prompts import Text, Token


class TextEncoder:
    """Encodes the parts of a prompt or a target with a checkpoint's vocabulary.

    A tokenizer that knows added tokens finds them in any text. Here text goes through a copy of it
    without added tokens, so that `<loc_5>` in a question is seven characters; only a `Token` part
    becomes the model's own token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        backend |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        self._plain = Tokenizer.from_str(json.dumps(backend))
        self._tokenizer = tokenizer
        self._unknown = tokenizer.unk_token_id
        self.bos: int = tokenizer.bos_token_id
        self.pad: int = tokenizer.pad_token_id
        self.eos: int = tokenizer.eos_token_id

    def encode(self, text: Text) -> list[int]:
        """The ids of the parts between `<s>` and `</s>`. Raises `InputError` for a `Token` that the
        checkpoint lacks."""
        ids = [self.bos]
        for part in text:
            if isinstance(part, Token):
                ids.append(self._token(part))
            else:
                ids.extend(self._plain.encode(part).ids)
        return [*ids, self.eos]

    def count(self, text: Text) -> int:
        """How many ids `encode` gives, `<s>` and `</s>` included."""
        return len(self.encode(text))

    def _token(self, token: Token) -> int:
        index = self._tokenizer.convert_tokens_to_ids(token.text)
        if index is None or index == self._unknown:
            raise InputError(
                f"the checkpoint's vocabulary has no token {token.text}; "
                "the published Florence-2 checkpoints have one for every task"
            )
        return int(index)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of generated ids, location tokens included, the frame of a sequence left out."""
        frame = (self.bos, self.pad, self.eos)
        return str(self._tokenizer.decode([index for index in ids if index not in frame])).strip()
