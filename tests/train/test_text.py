"""Text from the data reaches the model as text; only a `Token` becomes one of the model's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from florence_data import InputError
from florence_data.prompts import Token
from florence_train.text import TextEncoder
from florence_train.tiny import tiny_processor

PROCESSOR = tiny_processor()
ENCODER = TextEncoder(PROCESSOR.tokenizer)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_plain_text_is_encoded_as_the_tokenizer_does(text: str) -> None:
    if "<" not in text:
        expected = PROCESSOR.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ENCODER.encode((text,)) == [0, *expected, 2]


@pytest.mark.parametrize("markup", ["<image>", "<loc_5>", "<pad>", "</s>", "<s>", "<mask>", "<od>"])
def test_markup_in_text_is_text(markup: str) -> None:
    ids = ENCODER.encode((f"is {markup} here",))
    assert PROCESSOR.tokenizer.convert_tokens_to_ids(markup) not in ids[1:-1]
    assert ENCODER.decode(ids) == f"is {markup} here"


def test_a_token_is_the_models_own() -> None:
    ids = ENCODER.encode(("cat", Token("<loc_5>")))
    assert ids[-2] == PROCESSOR.tokenizer.convert_tokens_to_ids("<loc_5>")
    assert ENCODER.decode(ids) == "cat<loc_5>"


def test_a_token_that_the_checkpoint_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="<loc_1000>"):
        ENCODER.encode((Token("<loc_1000>"),))
