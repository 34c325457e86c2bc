"""Samples as lines of JSON, for a person's eyes and for other tools.

A line is the JSON of `Sample`. Its image has `location`, `{"path", "offset", "size"}`, or `data`,
the bytes in base64. A path is relative to the file's own directory and stays below it; other paths
and URLs can name any file, so that they are followed only where the reader says so.
"""

from __future__ import annotations

import gzip
import io
import os.path
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

import msgspec
from msgspec.structs import replace

from florence_data import storage
from florence_data.errors import InputError
from florence_data.sample import Location, Sample

LONGEST_LINE = 1 << 28
"""Bytes of a line: an embedded page is a few hundred thousand."""

_MAGIC = b"\x1f\x8b"


def light(sample: Sample) -> Sample:
    """The sample without its image's bytes, if they can be read again from a location."""
    if sample.image.location is None:
        return sample
    return replace(sample, image=replace(sample.image, data=b""))


def write_lines(samples: Iterable[Sample], path: str | Path) -> None:
    """Write the file; it appears when it is complete. A name that ends with `.gz` compresses it."""
    folder, name = storage.split_url(path)
    with storage.open_directory(folder).create(name) as file:
        if name.endswith(".gz"):
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
                _write(samples, cast(IO[bytes], compressed), folder)
        else:
            _write(samples, file, folder)


def _write(samples: Iterable[Sample], file: IO[bytes], folder: str) -> None:
    for sample in samples:
        described = light(sample)
        location = described.image.location
        if location is not None:
            located = replace(location, path=_relative(location.path, folder))
            described = replace(described, image=replace(described.image, location=located))
        file.write(msgspec.json.encode(described) + b"\n")


def _relative(path: str, folder: str) -> str:
    """The path from the folder, if it is below it; else a path that holds from anywhere."""
    if "://" in path or "://" in folder:
        return path.removeprefix(folder + "/")
    relative = os.path.relpath(path, folder)
    return str(Path(path).resolve()) if relative.startswith("..") else relative


def read_lines(path: str | Path, anywhere: bool = False) -> Iterator[Sample]:
    """The samples of a file, compressed or not.

    Raises `InputError` with the line that is no sample, whose image has neither bytes nor a
    location, or, without `anywhere`, whose image is not below the file's directory.
    """
    folder, _ = storage.split_url(path)
    data = storage.read(path)
    file: IO[bytes] = io.BytesIO(data)
    if data.startswith(_MAGIC):
        file = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    number = 0
    while True:
        number += 1
        where = f"{path}, line {number}"
        try:
            line = file.readline(LONGEST_LINE)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{where}: not a gzip file, or damaged: {error}") from None
        if not line:
            return
        if len(line) == LONGEST_LINE:
            raise InputError(f"{where}: longer than {LONGEST_LINE} bytes")
        if line.strip():
            yield _placed(Sample.from_json(line, where), folder, anywhere, where)


def _placed(sample: Sample, folder: str, anywhere: bool, where: str) -> Sample:
    location = sample.image.location
    if location is None:
        if not sample.image.data:
            raise InputError(f"{where}: the image has neither data nor a location")
        return sample
    path = location.path
    below = not (
        path.startswith("/") or ":" in path or "\\" in path or ".." in path.split("/") or not path
    )
    if not below and not anywhere:
        raise InputError(
            f"{where}: the image is at {path!r}, which is not below {folder}; if you trust the "
            "file, read it with anywhere=True"
        )
    if location.offset < 0 or (location.size or 0) < 0:
        raise InputError(f"{where}: the image is at a negative offset or has a negative size")
    placed = Location(f"{folder}/{path}" if below else path, location.offset, location.size)
    return replace(sample, image=replace(sample.image, location=placed))
