"""Samples as lines of JSON, for a person's eyes and for other tools.

A line is the JSON of `Sample`. Its image has `location`, `{"path", "offset", "size"}`, or `data`,
the bytes in base64. A path is relative to the file's own directory and stays below it; other paths
and URLs can name any file, so that they are followed only where the reader says so.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

import msgspec
from msgspec.structs import replace

from florence_data import storage
from florence_data.account import Account
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


class SampleLines:
    """A file of lines as a source. Pickled, it is the file's name: another process opens it anew.

    Opening finds the lines, in one pass over the file, and keeps 16 bytes for each; a sample is
    read when it is asked for. A compressed or a remote file is unpacked into a temporary one.

    Raises `InputError` if the file cannot be read, and for a line of `LONGEST_LINE` bytes.
    """

    def __init__(self, path: str | Path, anywhere: bool = False) -> None:
        self.path = path
        self.anywhere = anywhere
        self._file = _unpacked(path)
        self._starts, self._numbers = array("Q"), array("Q")
        for number, line in enumerate(iter(partial(self._file.readline, LONGEST_LINE), b""), 1):
            if len(line) == LONGEST_LINE:
                raise InputError(f"{path}, line {number}: longer than {LONGEST_LINE} bytes")
            if line.strip():
                self._numbers.append(number)
                self._starts.append(self._file.tell() - len(line))
        self._end = self._file.tell()

    def __reduce__(self) -> tuple[type[SampleLines], tuple[str | Path, bool]]:
        return SampleLines, (self.path, self.anywhere)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples of lines `start` to `stop - 1`; blank lines do not count.

        Raises `InputError` with the line that is no sample, whose image has neither bytes nor a
        location, or, without `anywhere`, whose image is not below the file's directory.
        """
        for position in range(start, min(stop, len(self))):
            sample = self._sample(position)
            account.rows.read += 1
            account.rows.kept += 1
            account.questions.read += len(sample.supervisions)
            yield sample

    def version(self) -> str:
        """A text that is another one where the file was changed."""
        return storage.version(self.path)

    def _sample(self, position: int) -> Sample:
        where = f"{self.path}, line {self._numbers[position]}"
        begin = self._starts[position]
        end = self._starts[position + 1] if position + 1 < len(self) else self._end
        # Unlike seek and read, pread can be used by forked processes at the same time.
        line = os.pread(self._file.fileno(), end - begin, begin)
        folder, _ = storage.split_url(self.path)
        return _placed(Sample.from_json(line, where), folder, self.anywhere, where)


def _unpacked(path: str | Path) -> IO[bytes]:
    """The lines as a file of this machine: itself, or a temporary one that ends with its use."""
    try:
        file = _temporary(_downloaded(path)) if "://" in str(path) else _local(path)
        packed = file.read(len(_MAGIC)) == _MAGIC
        file.seek(0)
        if not packed:
            return file
        with file, gzip.GzipFile(fileobj=file) as compressed:
            return _temporary(iter(partial(compressed.read, storage.BLOCK), b""))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a gzip file, or damaged: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _local(path: str | Path) -> IO[bytes]:
    return Path(path).open("rb")


def _downloaded(url: str | Path) -> Iterator[bytes]:
    folder, name = storage.split_url(url)
    directory, offset = storage.open_directory(folder), 0
    while block := directory.read_range(name, offset, storage.BLOCK):
        yield block
        offset += len(block)


def _temporary(blocks: Iterable[bytes]) -> IO[bytes]:
    """A file that is gone as soon as nobody uses it."""
    file = tempfile.TemporaryFile(prefix="florence-")  # noqa: SIM115
    file.writelines(blocks)
    file.seek(0)
    return file


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
