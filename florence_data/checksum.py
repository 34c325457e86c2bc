"""The checksum of whole files: XXH3-128, written as `xxh3-128:` and 32 hexadecimal digits.

It finds damage at the speed of memory, which SHA-256 does not. It does not protect from somebody
who changes a file on purpose.
"""

from __future__ import annotations

from typing import IO

import xxhash


class Checksum:
    """The checksum of what was seen so far, and how many bytes that was."""

    def __init__(self, content: bytes = b"") -> None:
        self.bytes = 0
        self._digest = xxhash.xxh3_128()
        self.update(content)

    def update(self, content: bytes) -> None:
        """Go on with the next bytes."""
        self._digest.update(content)
        self.bytes += len(content)

    def __str__(self) -> str:
        return f"xxh3-128:{self._digest.hexdigest()}"


class SummedFile:
    """A file that is being written, with the checksum of everything that went into it."""

    closed = False
    """For Arrow, which writes to this as to a file; whoever opened the file closes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.checksum = Checksum()
        self._file = file

    def write(self, content: bytes) -> None:
        """Append to the file."""
        self.checksum.update(content)
        self._file.write(content)
