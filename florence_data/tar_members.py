"""The members of any tar, found without trusting it.

Understands ustar, GNU long names and sizes, and the `path` and `size` of pax headers: what tar,
Python's tarfile and webdataset write. Only regular files are members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from florence_data.errors import InputError
from florence_data.shard_format import BLOCK

_LONGEST_NAME = 1 << 16
"""Bytes of a long name or a pax header; more is refused."""

_REGULAR = b"0\07"
_DIRECTORY, _LONG_NAME, _PAX, _PAX_GLOBAL = b"5", b"L", b"x", b"g"


@dataclass(frozen=True)
class Member:
    """A regular file of a tar: its name, and where its content is."""

    name: str
    offset: int
    size: int


def tar_members(
    read_range: Callable[[int, int], bytes], tar_size: int, name: str
) -> Iterator[Member]:
    """The regular files of a tar of `tar_size` bytes, in its order.

    `read_range(offset, size)` reads from it, `name` stands for it in error messages. Raises
    `InputError` for what is no tar or is cut short, and for members that leave the directory they
    would be unpacked in: absolute names, `..`, links and devices.
    """
    offset = 0
    long_name: str | None = None
    long_size: int | None = None
    while True:
        header = read_range(offset, BLOCK)
        where = f"{name}, offset {offset}"
        if len(header) < BLOCK:
            raise InputError(
                f"{where}: the file ends after {len(header)} bytes, where a tar has a header or "
                "its closing zeros"
            )
        if header == bytes(BLOCK):
            _require_zeros(read_range, offset, name)
            return
        kind, size = _kind_and_size(header, where)
        begin = offset + BLOCK
        if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
            if size > _LONGEST_NAME:
                raise InputError(f"{where}: a name of {size} bytes; up to {_LONGEST_NAME} are read")
            if begin + size > tar_size:
                raise InputError(f"{where}: a header of {size} bytes goes beyond the file's end")
            text = read_range(begin, size)
            if kind == _LONG_NAME:
                long_name = _text(text.rstrip(b"\0"), where)
            elif kind == _PAX:
                long_name, long_size = _pax(text, where, long_name)
        else:
            size = size if long_size is None else long_size
            if begin + size > tar_size:
                raise InputError(
                    f"{where}: a member of {size} bytes goes beyond the end of the file "
                    f"({tar_size} bytes)"
                )
            member = Member(long_name or _plain_name(header, where), begin, size)
            long_name = long_size = None
            if kind[0] in _REGULAR:
                yield _safe(member, where)
            elif kind != _DIRECTORY:
                raise InputError(
                    f"{where}: {member.name!r} is a link or a device (type {kind!r}); "
                    "only regular files are read"
                )
            else:
                size = 0
        offset = begin + size + -size % BLOCK


def _require_zeros(read_range: Callable[[int, int], bytes], offset: int, name: str) -> None:
    """See that nothing follows the end of the archive, such as members behind a lost header."""
    while block := read_range(offset, 1 << 20):
        if block.strip(b"\0"):
            raise InputError(
                f"{name}: after the end of the archive, data follows at offset {offset} or later; "
                "unpack and pack it again"
            )
        offset += len(block)


def _kind_and_size(header: bytes, where: str) -> tuple[bytes, int]:
    """Type and size of a header whose checksum fits."""
    checksum = _octal(header[148:156], where)
    if sum(header) - sum(header[148:156]) + 8 * ord(" ") != checksum:
        raise InputError(f"{where}: not a tar header (its checksum differs)")
    return header[156:157], _octal(header[124:136], where)


def _octal(field: bytes, where: str) -> int:
    """A number: octal digits, or GNU's big-endian bytes behind 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not all(digit in b"01234567" for digit in digits):
        raise InputError(f"{where}: not a tar header ({field!r} is no octal number)")
    return int(digits or b"0", 8)


def _plain_name(header: bytes, where: str) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return _text(name, where)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError(f"{where}: a name that is not UTF-8: {data[:100]!r}") from None


def _pax(data: bytes, where: str, name: str | None) -> tuple[str | None, int | None]:
    """The `path` and `size` of a pax header: records of `LENGTH KEY=VALUE\\n`."""
    size: int | None = None
    while data.strip(b"\0"):
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) < int(length) <= len(data):
            raise InputError(f"{where}: not a pax header")
        key, equals, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equals:
            raise InputError(f"{where}: not a pax header")
        if key == b"path":
            name = _text(value, where)
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise InputError(f"{where}: a pax size of {value[:30]!r}")
            size = int(value)
        data = data[int(length) :]
    return name, size


def _safe(member: Member, where: str) -> Member:
    parts = member.name.removeprefix("./").split("/")
    if (
        not parts[-1]
        or member.name.startswith("/")
        or ".." in parts
        or "\\" in member.name
        or not member.name.isprintable()
    ):
        raise InputError(f"{where}: member {member.name!r} has no safe relative name")
    return member
