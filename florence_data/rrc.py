"""Annotation files of the Robust Reading Competition: questions in JSON, images in a folder.

A file is `{"dataset_name", "dataset_split", "data": [{"questionId", "question", …}]}`, one object a
question, and lies with its images however the user unpacked them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from florence_data.errors import InputError
from florence_data.hub import SPLITS, named_split


def find_annotations(source: str, split: str) -> Path | None:
    """The annotation file of a split: `source` itself, or one in it or in a folder of it.

    None if there is none there. Raises `InputError` if several fit.
    """
    root = Path(source)
    if root.suffix == ".json":
        return root
    found = [
        path
        for pattern in ("*.json", "*/*.json")
        for path in sorted(root.glob(pattern))
        if named_split(path.relative_to(root)) == split
    ]
    if len(found) > 1:
        raise InputError(
            f"{source}: several annotation files of split {split!r}: "
            f"{', '.join(str(path.relative_to(root)) for path in found)}; name one as the source"
        )
    return found[0] if found else None


def read_annotations(
    path: Path, split: str, required: Sequence[str]
) -> tuple[Mapping[str, Any], ...]:
    """The question objects of an annotation file.

    Raises `InputError` if it cannot be read, is of another split, or an object lacks a key.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise InputError(f'{path}: no list "data"; expected the JSON of the competition')
    if not content["data"]:
        raise InputError(f'{path}: "data" is empty; expected one object a question')
    stated = str(content.get("dataset_split", split))
    if SPLITS.get(stated, stated) != split:
        raise InputError(f"{path}: holds split {stated!r}; {split!r} was asked for")
    for number, record in enumerate(content["data"]):
        if not isinstance(record, dict):
            raise InputError(f"{path}: data[{number}] is no object")
        if missing := [key for key in required if key not in record]:
            raise InputError(
                f"{path}: data[{number}] lacks {', '.join(missing)}; found {', '.join(record)}"
            )
    return tuple(content["data"])


def find_image_directory(annotations: Path, images: str | None, names: Sequence[str]) -> str:
    """The directory that the images' names are relative to, told by the first hundred of them.

    Searched are `images` if given, or the folders beside and around the annotation file. Raises
    `InputError` if no image is in any.
    """
    near = (annotations.parent, annotations.parent.parent)
    searched = (
        [Path(images)]
        if images
        else [
            directory
            for parent in near
            for directory in (parent, *sorted(path for path in parent.iterdir() if path.is_dir()))
        ]
    )
    for directory in searched:
        if any((directory / name).is_file() for name in names[:100]):
            return str(directory)
    where = images or f"a folder beside it or around {annotations.parent}"
    raise InputError(
        f"{annotations}: its images, such as {names[0]}, are not in {where}; give their folder "
        "with --images"
    )
