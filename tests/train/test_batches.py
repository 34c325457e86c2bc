"""Plans cover every question once; batches hold what the official processor would make."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as with_fields
from transformers.models.bart.modeling_bart import shift_tokens_right

from florence_data import InputError, SampleSet
from florence_data.images import decode
from florence_data.prompts import prompt_template
from florence_train.batches import Group, PageReader, Plan, pack
from florence_train.model import load_florence

counts = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def groups_of(numbers: list[int]) -> list[Group]:
    return [Group(page, tuple(range(number))) for page, number in enumerate(numbers)]


def all_questions(samples: SampleSet) -> list[Group]:
    return groups_of([len(sample.supervisions) for sample in samples])


@given(counts, st.integers(1, 12), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_asks_every_question_once_and_no_step_is_too_large(
    numbers: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    steps = Plan((tuple(groups_of(numbers)),), batch_size, seed).epoch(epoch)
    asked = [(g.page, question) for step in steps for g in step for question in g.questions]
    assert sorted(asked) == [(p, q) for p, number in enumerate(numbers) for q in range(number)]
    assert all(0 < sum(len(g.questions) for g in step) <= batch_size for step in steps)


@given(counts, st.integers(1, 12))
def test_a_page_is_divided_only_where_it_alone_exceeds_the_limit(
    numbers: list[int], limit: int
) -> None:
    parts = pack(groups_of(numbers), limit)
    pieces = [group for part in parts for group in part]
    for page, number in enumerate(numbers):
        assert len([p for p in pieces if p.page == page]) == -(-number // limit)


def test_epochs_have_their_own_order_and_the_seed_repeats_it() -> None:
    groups = (tuple(groups_of([1] * 20)),)
    plan = Plan(groups, batch_size=4, seed=0)
    assert plan.epoch(0) == Plan(groups, batch_size=4, seed=0).epoch(0)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != Plan(groups, batch_size=4, seed=1).epoch(0)


def test_weights_share_out_an_epoch_and_every_page_comes_equally_often() -> None:
    first, second = groups_of([2] * 30), [Group(page, (0, 1), 1) for page in range(10)]
    plan = Plan((tuple(first), tuple(second)), batch_size=8, seed=0, weights=(1.0, 1.0))
    assert plan.shares() == [20, 20]
    drawn = [group for epoch in range(3) for step in plan.epoch(epoch) for group in step]
    times = Counter((group.data, group.page) for group in drawn)
    assert set(times.values()) == {2, 6} and len(times) == 40
    assert all(times[0, page] == 2 for page in range(30))


@given(counts, st.integers(1, 12), st.integers(1, 6), st.integers(0, 3))
def test_only_so_many_questions_of_a_page_come_in_one_step(
    numbers: list[int], batch_size: int, page_questions: int, epoch: int
) -> None:
    groups = (tuple(groups_of(numbers)),)
    steps = Plan(groups, batch_size, seed=0, page_questions=page_questions).epoch(epoch)
    asked = [(g.page, question) for step in steps for g in step for question in g.questions]
    assert sorted(asked) == [(p, q) for p, number in enumerate(numbers) for q in range(number)]
    for step in steps:
        of_page: Counter[int] = Counter()
        for group in step:
            of_page[group.page] += len(group.questions)
        assert 0 < of_page.total() <= batch_size
        assert max(of_page.values()) <= page_questions


def test_a_page_that_is_drawn_again_comes_in_another_step() -> None:
    few, many = [Group(0, (0, 1))], [Group(page, (0, 1), 1) for page in range(20)]
    plan = Plan((tuple(few), tuple(many)), 6, seed=0, weights=(1.0, 2.0), page_questions=2)
    steps = plan.epoch(0)
    assert sum(group.data == 0 for step in steps for group in step) == 7
    assert all(len({(g.data, g.page) for g in step}) == len(step) for step in steps)


def test_steps_are_full_while_enough_pages_are_left() -> None:
    plan = Plan((tuple(groups_of([4] * 100)),), batch_size=8, seed=0, page_questions=1)
    sizes = [sum(len(group.questions) for group in step) for step in plan.epoch(0)]
    assert sizes.count(8) >= 49 and len(sizes) <= 52


@pytest.mark.parametrize("weights", [(1.0, 10000.0), (10000.0, 1.0)])
def test_weights_that_leave_a_set_out_are_refused(weights: tuple[float, float]) -> None:
    sets = (tuple(groups_of([1] * 8)), tuple(Group(page, (0,), 1) for page in range(8)))
    plan = Plan(sets, batch_size=4, seed=0, weights=weights)
    with pytest.raises(
        InputError, match=r"of the 16 pages of an epoch, the sets get (0, 16|16, 0);"
    ):
        plan.epoch(0)


def test_a_batch_equals_the_official_processors(samples: SampleSet) -> None:
    florence = load_florence("tiny")
    reader = PageReader((samples,), prompt_template("docvqa"), florence.collator, 400, workers=0)
    groups = all_questions(samples)[:3]
    batch = reader.batch(tuple(groups))
    pictures = [decode(samples[g.page].image.read(), "page") for g in groups for _ in g.questions]
    questions = [samples[g.page].supervisions[q].question for g in groups for q in g.questions]
    official = florence.processor(
        images=pictures,
        text=["<DocVQA>" + question for question in questions],
        padding=True,
        return_tensors="pt",
    )
    text = official["input_ids"][:, florence.image_tokens :]
    assert torch.equal(batch.prompts, text)
    assert torch.equal(batch.prompt_mask, official["attention_mask"][:, florence.image_tokens :])
    # JPEGs are decoded at a reduced size here, so single pixels differ; pages must not.
    difference = (batch.pixels[batch.page] - official["pixel_values"]).abs()
    assert float(difference.mean()) < 0.05
    assert batch.page.tolist() == [0, 1, 1, 2, 2, 2]


def test_an_image_that_changed_since_it_was_sharded_is_refused(samples: SampleSet) -> None:
    """Even where it decodes: 40 bytes in the middle of a JPEG are only other pixels."""
    florence = load_florence("tiny")
    template = prompt_template("docvqa")
    data = bytearray(samples[0].image.read())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    damaged = with_fields(samples[0].image, data=bytes(data))
    decode(damaged.data, "page")
    example = template.example(with_fields(samples[0], image=damaged), samples[0].supervisions[0])
    with pytest.raises(
        InputError, match=r"\.tar, sample page-000: damaged, the SHA-256 of its image"
    ):
        florence.collator([[example]])


def test_labels_are_framed_and_padded_with_the_ignored_value(samples: SampleSet) -> None:
    florence = load_florence("tiny")
    reader = PageReader((samples,), prompt_template("docvqa"), florence.collator, 400, workers=0)
    batch = reader.batch((Group(3, (0, 1, 2, 3)),))
    assert len({len(example.target[0]) for example in batch.examples}) > 1
    for labels, example in zip(batch.labels, batch.examples, strict=True):
        kept = labels[labels != -100]
        assert kept[0] == 0 and kept[-1] == 2 and 1 not in kept
        assert florence.text_encoder.decode(kept.tolist()) == example.references[0]
        assert (labels[len(kept) :] == -100).all()
    assert batch.target_tokens == sum(len(e.target[0]) + 2 for e in batch.examples)
    assert torch.equal(batch.decoder_inputs(2, 1), shift_tokens_right(batch.labels, 1, 2))


def test_lengths_are_padded_to_a_multiple_with_the_image_tokens_before(samples: SampleSet) -> None:
    florence = load_florence("tiny")
    template = prompt_template("docvqa")
    groups = tuple(all_questions(samples)[:4])
    as_it_is = PageReader((samples,), template, florence.collator, 400, workers=0).batch(groups)
    collator = replace(florence.collator, multiple=8)
    batch = PageReader((samples,), template, collator, 400, workers=0).batch(groups)
    assert (florence.image_tokens + batch.prompts.shape[1]) % 8 == 0
    assert batch.labels.shape[1] % 8 == 0
    length, targets = as_it_is.prompts.shape[1], as_it_is.labels.shape[1]
    assert length <= batch.prompts.shape[1] < length + 8
    assert torch.equal(batch.prompts[:, :length], as_it_is.prompts)
    assert not batch.prompt_mask[:, length:].any()
    assert torch.equal(batch.labels[:, :targets], as_it_is.labels)
    assert (batch.labels[:, targets:] == -100).all()


def test_worker_processes_read_the_same_batches(samples: SampleSet) -> None:
    florence = load_florence("tiny")
    template = prompt_template("docvqa")
    plan = Plan((tuple(all_questions(samples)),), 4, 0).epoch(0)
    alone = PageReader((samples,), template, florence.collator, 400, workers=0).batches(plan)
    helped = PageReader((samples,), template, florence.collator, 400, workers=2).batches(plan)
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)
