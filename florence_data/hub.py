"""Where a data set's parquet files are: on the Hugging Face hub, or in a copy of its layout.

A data set is a directory of parquet files whose names begin with the split
(`train-00000-of-00038.parquet`), or that lie in a directory named after it (`train/0000.parquet`);
a file that names no split belongs to `train`, as the `datasets` library has it. The directory is a
local path or an fsspec URL, such as `hf://datasets/HuggingFaceM4/DocumentVQA`.
"""

from __future__ import annotations

import re
from pathlib import PurePath, PurePosixPath

import fsspec

from florence_data.errors import InputError

SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""What files and directories call a split, and what it is called here."""


def resolve_source(source: str, repository: str) -> str:
    """The directory that `source` means: `hub` is the data set `repository` there.

    Raises `InputError` if there is no such directory, or the hub cannot be read.
    """
    url = f"hf://datasets/{repository}" if source == "hub" else source.rstrip("/")
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        found = filesystem.isdir(path)
    except ImportError:
        raise InputError(
            f"{url}: the hub extra is not installed; pip install 'florence-docs[hub]', or give the "
            "directory of a local copy"
        ) from None
    except Exception as error:  # whatever the hub's client raises when it is offline
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{url}: cannot be reached ({reason}); give the directory of a local copy"
        ) from None
    if not found:
        raise InputError(
            f"{url}: no such directory; a local copy of {repository}, an fsspec URL or 'hub' is "
            "accepted"
        )
    return url


def list_directories(url: str) -> list[str]:
    """The names of the directories in a directory, sorted."""
    filesystem, path = fsspec.core.url_to_fs(url)
    entries = filesystem.ls(path, detail=True)
    names = [PurePosixPath(entry["name"]).name for entry in entries if entry["type"] == "directory"]
    return sorted(name for name in names if not name.startswith("."))


def find_parquet(url: str, split: str, alternative: str = "") -> tuple[str, ...]:
    """The URLs of a split's parquet files in a directory, its `data/` or `SPLIT/`, in name order.

    Raises `InputError` if there are none, naming the splits that there are; `alternative` says what
    else the caller would accept.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    directory = PurePosixPath(path)
    found = [
        PurePosixPath(file).relative_to(directory)
        for pattern in ("*.parquet", *(f"{name}/*.parquet" for name in ("data", *SPLITS)))
        for file in sorted(filesystem.glob(str(directory / pattern)))
    ]
    files = tuple(f"{url}/{file}" for file in found if (named_split(file) or "train") == split)
    if not files:
        splits = ", ".join(sorted({named_split(file) or "train" for file in found}))
        raise InputError(
            f"{url}: no parquet file of split {split!r}; "
            + (f"found files of: {splits}" if found else "found no parquet file at all")
            + f"; expected {split}-*.parquet, here or in data/, or {split}/*.parquet{alternative}"
        )
    return files


def named_split(file: PurePath) -> str | None:
    """The split that a file's path names, if it names one."""
    words = (file.parent.name, *re.split(r"[-_.]", file.name))
    return next((SPLITS[word] for word in words if word in SPLITS), None)
