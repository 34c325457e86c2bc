"""The shard format: what this page says is enough to write another reader or writer.

A shard set is a directory::

    train-000000.tar  train-000001.tar  …  index.arrow  dataset.json

**Shards** are named `{split}-{number}.tar`, six digits from 000000 without gaps within a split.
Each is a POSIX ustar archive, readable by any WebDataset client. A sample is two regular members,
the image first and its description right after it::

    KEY.jpg | KEY.png | KEY.webp    the encoded image
    KEY.json                        `florence_data.sample.Sample` without the image's bytes, UTF-8

Every member has a 512-byte header (mode 0644, user, group and time 0, fields that do not apply
empty), its content, and zeros up to the next multiple of 512. Two blocks of zeros end the archive;
there is no further padding. KEY is the sample's id with every UTF-8 byte outside
`A-Z a-z 0-9 _ - ~` written as `%XX`; an id that takes more than 90 characters so is cut to 57 of
them, followed by `~` and the first 32 hexadecimal digits of the SHA-256 of the id's UTF-8. The id
itself stands in the JSON and in the index.

**`index.arrow`** is one uncompressed Arrow IPC file (Feather 2), one row a sample and one record
batch a shard, in their order, with the columns of `INDEX_SCHEMA`. Offsets count bytes from the
beginning of the shard to the content, behind the header. From `image_offset` to the end of the JSON
is one range of the file, so that one read fetches a sample.

**`dataset.json`** is the JSON of `Description`: the schema's version, the shards with their sizes
and XXH3-128 checksums (written as in `florence_data.checksum`), the counts, how images were
converted, what made the set, and the account of what was read, kept and dropped. It is written
last: a directory without it is unfinished, and what was done so far is in its folder `unfinished`.

The same samples and options give the same bytes in all of these files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Literal
from urllib.parse import quote

import msgspec
import pyarrow as pa

from florence_data.account import Account
from florence_data.errors import InputError

FORMAT = "florence-shards"
VERSION = 1
INDEX = "index.arrow"
DESCRIPTION = "dataset.json"
UNFINISHED = "unfinished"

BLOCK = 512
"""Tar's unit: headers are one block, contents are padded to whole blocks."""

END = bytes(2 * BLOCK)
"""What closes an archive."""

LONGEST_KEY = 90
"""Characters of a key: a ustar name holds 100, and the longest suffix is `.json`."""

LARGEST_MEMBER = 8**11 - 1
"""Bytes: ustar writes a size as eleven octal digits."""

SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp"}

INDEX_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("key", pa.large_string()),
        ("shard", pa.int32()),
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_size", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.large_string()),
        ("sha256", pa.large_string()),
        ("supervisions", pa.int32()),
        ("source", pa.large_string()),
        ("split", pa.large_string()),
        ("doc_id", pa.large_string()),
    ]
)
"""`shard` counts from 0 in the order of `Description.shards`; `sha256` is the image's."""


class FileDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a set: `bytes` is its size, `checksum` as `florence_data.checksum` writes it."""

    name: str
    bytes: int
    checksum: str


class ShardDescription(FileDescription, frozen=True, kw_only=True):
    """One tar of a set."""

    split: str
    samples: int


class ImageDescription(msgspec.Struct, frozen=True, kw_only=True):
    """How images were converted before they were stored.

    `size` is (width, height) in pixels, or null where each page keeps its own; `format` is `keep`
    where the source's bytes were stored unless their size changed; `quality` is the encoder's.
    """

    size: tuple[int, int] | None = None
    format: Literal["keep", "jpeg", "png", "webp"] = "keep"
    quality: int = 90

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"image quality {self.quality}; expected 1 to 100")


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `dataset.json`.

    `made_from` is what the writer was given, as JSON values; `job` is the digest of all that the
    bytes depend on, empty where samples were handed over one by one. `members` is `own` for shards
    as this page describes them, and `any` for tars of others that were given an index
    (`florence_data.plain_tars`): there a description may stand before its image or be absent, which
    is a `json_size` of 0.
    """

    format: str = FORMAT
    version: int = VERSION
    samples: int
    supervisions: int
    shards: tuple[ShardDescription, ...]
    index: FileDescription
    images: ImageDescription
    account: Account
    made_from: dict[str, Any]
    job: str = ""
    members: Literal["own", "any"] = "own"

    def to_json(self) -> bytes:
        """The file's bytes, indented for people."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Description:
        """Read the file; `name` stands for it in error messages.

        Raises `InputError` if it is not one, if its version is newer than `VERSION`, or if it names
        a file outside its directory.
        """
        try:
            description = msgspec.json.decode(data, type=cls, dec_hook=read_counter)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: not the description of a shard set: {error}") from None
        if description.format != FORMAT:
            raise InputError(f"{name}: format {description.format!r}, expected {FORMAT!r}")
        if not 1 <= description.version <= VERSION:
            raise InputError(
                f"{name}: format version {description.version}; this program reads up to {VERSION}"
            )
        for file in (*description.shards, description.index):
            if not is_plain_name(file.name):
                raise InputError(f"{name}: {file.name!r} is not the name of a file beside it")
        return description


def read_counter(kind: type, value: object) -> object:
    """For msgspec: the counters of an account are objects with whole numbers."""
    if not isinstance(value, dict) or not all(
        isinstance(reason, str) and isinstance(count, int) for reason, count in value.items()
    ):
        raise ValueError(f"{value!r} is not an object of counts")
    return Counter(value)


def is_plain_name(name: str) -> bool:
    """Whether a name stays in its directory: one part, printable, none of `/ \\ :`."""
    return (
        name not in ("", ".", "..")
        and name.isprintable()
        and not any(character in name for character in "/\\:")
    )


def member_key(sample_id: str) -> str:
    """KEY of a sample's members, as the module's description defines it."""
    escaped = quote(sample_id, safe="").replace(".", "%2E")
    if len(escaped) <= LONGEST_KEY:
        return escaped
    return f"{escaped[:57]}~{hashlib.sha256(sample_id.encode()).hexdigest()[:32]}"


def shard_name(split: str, number: int) -> str:
    """The name of a split's shard; a split's name is escaped like a key."""
    return f"{member_key(split)}-{number:06d}.tar"


_HEADER_BEFORE_SIZE = b"0000644\0" + b"0000000\0" * 2
_HEADER_AFTER_CHECKSUM = b"0" + bytes(100) + b"ustar\x0000"
_HEADER_CONSTANT_SUM = (
    sum(_HEADER_BEFORE_SIZE) + sum(b"%011o\0" % 0) + 8 * ord(" ") + sum(_HEADER_AFTER_CHECKSUM)
)


def member_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member. `name` is ASCII; the size must fit (`LARGEST_MEMBER`)."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or not 0 <= size <= LARGEST_MEMBER:
        raise InputError(f"{name}: {size} bytes; a ustar member holds up to {LARGEST_MEMBER}")
    octal_size = b"%011o\0" % size
    checksum = sum(encoded) + sum(octal_size) + _HEADER_CONSTANT_SUM
    return b"".join(
        (
            encoded.ljust(100, b"\0"),
            _HEADER_BEFORE_SIZE,
            octal_size,
            b"%011o\0" % 0,
            b"%06o\0 " % checksum,
            _HEADER_AFTER_CHECKSUM.ljust(BLOCK - 156, b"\0"),
        )
    )


def padding(size: int) -> bytes:
    """The zeros after a member of `size` bytes."""
    return bytes(-size % BLOCK)
