"""WebDataset tars that others made, as samples; and an index for them.

Members belong together if they follow each other and have the same name up to the first dot of its
last part. A sample is an image (`jpg`, `jpeg`, `png`, `webp`) and at most one description:

- `json` as `florence_data.shard_format` describes it, or any object. Of an object, `question` with
  `answer` or `answers`, or a list `texts` of `{user, assistant}`, become supervisions, and what
  remains is their metadata; with neither, its `caption` or `text` becomes an answer.
- `txt`, which becomes the answer of one supervision of the task `caption`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from florence_data.account import Account
from florence_data.errors import InputError
from florence_data.sample import Image, Sample, Supervision
from florence_data.shard_format import (
    DESCRIPTION,
    INDEX,
    UNFINISHED,
    Description,
    ImageDescription,
    ShardDescription,
)
from florence_data.shard_index import index_batch, write_index
from florence_data.shard_sealing import publish
from florence_data.storage import Directory, open_directory, split_url
from florence_data.tar_members import Member, tar_members

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
DESCRIPTION_SUFFIXES = ("json", "txt")


@dataclass(frozen=True)
class Entry:
    """The members of one sample: a key, an image, and a description where there is one."""

    key: str
    image: Member | None
    description: Member | None


def entries(directory: Directory, tar: str, account: Account) -> Iterator[Entry]:
    """The samples of a tar; members of other kinds are counted as dropped rows.

    Raises `InputError` for what is no tar, for two members of one kind, and for a key that comes
    again later.
    """
    name = f"{directory.url}/{tar}"
    members = tar_members(
        lambda offset, size: directory.read_range(tar, offset, size), directory.size(tar), name
    )
    seen: set[str] = set()
    for key, group in groupby(members, key=lambda member: _key_and_suffix(member.name)[0]):
        if key in seen:
            raise InputError(f"{name}: the members of {key!r} do not follow each other")
        seen.add(key)
        image: Member | None = None
        description: Member | None = None
        for member in group:
            suffix = _key_and_suffix(member.name)[1]
            if suffix in IMAGE_SUFFIXES and image is None:
                image = member
            elif suffix in DESCRIPTION_SUFFIXES and description is None:
                description = member
            elif suffix in IMAGE_SUFFIXES + DESCRIPTION_SUFFIXES:
                raise InputError(f"{name}: {member.name!r} is a second {suffix} of one sample")
            else:
                account.rows.read += 1
                account.rows.drop(f"member .{suffix} in a tar")
        yield Entry(key, image, description)


def sample_of(key: str, image: Image, description: bytes, source: str, name: str) -> Sample:
    """A sample from its image and its description's bytes, as the module's description says.

    `description` is empty where there is none. Raises `InputError` if it cannot be understood.
    """
    content = _parsed(description)
    if isinstance(content, dict) and "supervisions" in content:
        return replace(Sample.from_json(description, name), image=image)
    return Sample(
        id=key,
        source=source,
        split="train",
        doc_id=key,
        image=image,
        supervisions=tuple(_supervisions(key, content, name)),
    )


def _supervisions(key: str, content: Any, name: str) -> Iterator[Supervision]:
    if content is None:
        return
    if isinstance(content, str):
        yield Supervision(id=f"{key}_0", task="caption", answers=(content.strip(),))
        return
    if not isinstance(content, dict):
        raise InputError(
            f"{name}: a text or a JSON object is expected beside an image, found a list"
        )
    rest = {
        field: value
        for field, value in content.items()
        if field not in ("question", "answer", "answers", "texts", "caption", "text")
    }
    if "question" in content:
        answers = content.get("answers", content.get("answer", []))
        answers = [answers] if isinstance(answers, str) else answers
        pairs = [(content["question"], answers)]
    elif "texts" in content:
        texts = content["texts"]
        if not isinstance(texts, list) or not all(isinstance(turn, dict) for turn in texts):
            raise InputError(f"{name}: texts is expected to be a list of {{user, assistant}}")
        pairs = [(turn.get("user"), [turn.get("assistant")]) for turn in texts]
    else:
        caption = content.get("caption", content.get("text"))
        pairs = [] if caption is None else [("", [caption])]
    for number, (question, answers) in enumerate(pairs):
        texts = [question, *answers] if isinstance(answers, list) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"{name}: a question and its answers are expected to be strings")
        assert isinstance(answers, list)
        yield Supervision(
            id=f"{key}_{number}",
            task="vqa" if question else "caption",
            question=question,
            answers=tuple(answers),
            metadata=rest,
        )


def _parsed(description: bytes) -> Any:
    """A JSON object or array, or text where it is neither; None for nothing."""
    if not description:
        return None
    try:
        content = msgspec.json.decode(description)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = None
    return content if isinstance(content, dict | list) else description.decode(errors="replace")


def stream(paths: Sequence[str | Path], account: Account | None = None) -> Iterator[Sample]:
    """The samples of tars, one tar after the other, in one pass over each; needs no index.

    `account` counts what is read and dropped. A sample's source is its tar's name. Raises what
    `entries` and `sample_of` raise.
    """
    for path in paths:
        folder, tar = split_url(path)
        directory = open_directory(folder)
        for _, sample in _samples(directory, tar, Account() if account is None else account):
            yield sample


def _samples(directory: Directory, tar: str, account: Account) -> Iterator[tuple[Entry, Sample]]:
    for entry in entries(directory, tar, account):
        account.rows.read += 1
        if entry.image is None:
            account.rows.drop("sample without an image")
            continue
        image = directory.read_range(tar, entry.image.offset, entry.image.size)
        description = b""
        if entry.description is not None:
            description = directory.read_range(
                tar, entry.description.offset, entry.description.size
            )
            if entry.description.name.lower().endswith(".json") and not isinstance(
                _parsed(description), dict
            ):
                raise InputError(
                    f"{directory.url}/{tar}: {entry.description.name!r} is no JSON object"
                )
        where = f"{directory.url}/{tar}, {entry.key}"
        try:
            facts = Image.from_bytes(image, where)
        except InputError:
            account.rows.drop("image that cannot be read")
            continue
        sample = sample_of(entry.key, facts, description, tar.removesuffix(".tar"), where)
        account.rows.kept += 1
        account.questions.read += len(sample.supervisions)
        yield entry, sample


def index_tars(url: str | Path) -> Description:
    """Write `index.arrow` and `dataset.json` beside the tars of a directory, in one pass over them.

    Afterwards `SampleSet.from_shards` opens it. The tars stay as they are. Raises `InputError` if
    there are none, if one is damaged, or if the directory has an index already.
    """
    directory = open_directory(url)
    names = directory.names()
    if DESCRIPTION in names or INDEX in names:
        raise InputError(f"{directory.url}: has an index already ({INDEX}, {DESCRIPTION})")
    tars = [name for name in names if name.endswith(".tar") and "/" not in name]
    if not tars:
        raise InputError(f"{directory.url}: no .tar files; found {len(names)} other files")
    account = Account()
    shards: list[ShardDescription] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number, tar in enumerate(tars):
            rows = []
            for entry, sample in _samples(directory, tar, account):
                account.keep_page(len(sample.supervisions))
                rows.append(_index_row(number, entry, sample))
            size, checksum = directory.checksum(tar)
            shards.append(
                ShardDescription(
                    name=tar,
                    bytes=size,
                    checksum=checksum,
                    split=tar.removesuffix(".tar"),
                    samples=len(rows),
                )
            )
            yield index_batch(rows)

    try:
        index = write_index(directory, f"{UNFINISHED}/{INDEX}", batches())
    except BaseException:
        directory.remove(UNFINISHED)
        raise
    return publish(
        directory,
        index,
        shards,
        account=account,
        images=ImageDescription(),
        made_from={"indexed": tars},
        members="any",
    )


def _index_row(shard: int, entry: Entry, sample: Sample) -> tuple[Any, ...]:
    assert entry.image is not None
    description = entry.description or Member("", entry.image.offset + entry.image.size, 0)
    return (
        sample.id,
        entry.key,
        shard,
        entry.image.offset,
        entry.image.size,
        description.offset,
        description.size,
        sample.image.width,
        sample.image.height,
        sample.image.format,
        sample.image.sha256,
        len(sample.supervisions),
        sample.source,
        sample.split,
        sample.doc_id,
    )


def _key_and_suffix(name: str) -> tuple[str, str]:
    """`a/b.c.json` as `a/b` and `c.json`; suffixes in lower case."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, suffix = last.partition(".")
    return folder + slash + stem, suffix.lower()
