"""Directories on local disks and in object stores, with the few operations that shards need.

A local path is served by the operating system's own calls; anything with a protocol goes through
fsspec. Files appear under their name whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import fsspec

from florence_data.checksum import Checksum
from florence_data.errors import InputError

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "http", "https", "memory")
"""What a URL may begin with. None of them can start a process."""

ATTEMPTS = 5
"""How often a remote operation is tried before it is an error."""

FIRST_PAUSE = 0.2
"""Seconds before the second attempt; each further pause is twice as long."""

BLOCK = 1 << 22
"""Bytes that are read at a time where a whole file is read."""

TEMPORARY = ".tmp"
"""How the name of a file ends that is being written on the local disk."""

T = TypeVar("T")


class Directory(Protocol):
    """A directory; names are relative to it, with `/` between their parts."""

    url: str

    def names(self) -> list[str]:
        """All complete files in it and below, sorted; empty if there is no such directory."""
        ...

    def size(self, name: str) -> int:
        """The size of a file in bytes. Raises `InputError` if there is none."""
        ...

    def read(self, name: str) -> bytes:
        """A whole file. Raises `InputError` if there is none."""
        ...

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer at the end of the file."""
        ...

    def create(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write; it appears, durably, when the block ends without an error."""
        ...

    def checksum(self, name: str) -> tuple[int, str]:
        """The size of a file and `florence_data.checksum` of its content."""
        ...

    def holds(self, name: str, size: int, checksum: str) -> bool:
        """Whether a file is there with this size and content.

        The content of a remote file is not read: such a file is complete or absent.
        """
        ...

    def version(self, name: str) -> str:
        """A text that is another one where the file was changed. Raises `InputError` if absent.

        Of a local file it is the size and the time of the last change; of a remote one what the
        store tells, such as an S3 object's ETag.
        """
        ...

    def rename(self, old: str, new: str) -> None:
        """Move a file; one that is already there is replaced."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or a directory with everything in it; nothing happens if it is absent."""
        ...


class LocalDirectory:
    """A directory of this machine."""

    OPEN_FILES = 64

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.url = str(path)
        self._forget_descriptors()

    def _forget_descriptors(self) -> None:
        self._process = os.getpid()
        self._descriptors: dict[str, int] = {}
        weakref.finalize(self, _close_all, self._descriptors)

    def __getstate__(self) -> str:
        return self.url

    def __setstate__(self, url: str) -> None:
        self.__init__(url)  # type: ignore[misc]

    def names(self) -> list[str]:
        return sorted(
            entry.relative_to(self.path).as_posix()
            for entry in self.path.rglob("*")
            if entry.suffix != TEMPORARY and not entry.is_dir()
        )

    def size(self, name: str) -> int:
        try:
            return (self.path / name).stat().st_size
        except OSError as error:
            raise InputError(f"{self.path / name}: {error.strerror}") from None

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"{self.path / name}: {error.strerror}") from None

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor(name), size, offset)
        except OSError as error:
            raise InputError(f"{self.path / name}: {error.strerror}") from None

    def _descriptor(self, name: str) -> int:
        if self._process != os.getpid():  # forked: open files anew
            self._forget_descriptors()
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            if len(self._descriptors) >= self.OPEN_FILES:
                oldest = next(iter(self._descriptors))
                os.close(self._descriptors.pop(oldest))
            descriptor = os.open(self.path / name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._descriptors[name] = descriptor
        return descriptor

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        path = self.path / name
        temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("wb")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written to ({error.strerror}); a directory is accepted "
                "that is there or can be made"
            ) from None
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)

    def checksum(self, name: str) -> tuple[int, str]:
        return _checksum(self, name)

    def holds(self, name: str, size: int, checksum: str) -> bool:
        return (self.path / name).is_file() and self.checksum(name) == (size, checksum)

    def version(self, name: str) -> str:
        try:
            found = (self.path / name).stat()
        except OSError as error:
            raise InputError(f"{self.path / name}: {error.strerror}") from None
        return f"{found.st_size} bytes of {found.st_mtime_ns}"

    def rename(self, old: str, new: str) -> None:
        (self.path / new).parent.mkdir(parents=True, exist_ok=True)
        (self.path / old).replace(self.path / new)
        _sync_directory((self.path / new).parent)

    def remove(self, name: str) -> None:
        path = self.path / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class RemoteDirectory:
    """A directory behind fsspec. A file is made on the local disk and then sent, so that a failed
    transfer can be tried again."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._connect()

    def _connect(self) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise InputError(f"{self.url}: {error}") from None
        self._process = os.getpid()

    def __getstate__(self) -> str:
        return self.url

    def __setstate__(self, url: str) -> None:
        self.__init__(url)  # type: ignore[misc]

    def _try(self, name: str, operation: Callable[[Any, str], T]) -> T:
        """Run an operation on (file system, full path), again where the connection fails."""
        if self._process != os.getpid():  # forked: a connection cannot be shared
            fsspec.asyn.reset_lock()
            self._files.clear_instance_cache()
            self._connect()
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return operation(self._files, f"{self._root}/{name}" if name else self._root)
            except FileNotFoundError:
                raise InputError(f"{self.url}/{name}: no such file") from None
            except PermissionError as error:
                raise InputError(f"{self.url}/{name}: {error}") from None
            except Exception as error:
                if attempt == ATTEMPTS:
                    raise InputError(
                        f"{self.url}/{name}: failed {ATTEMPTS} times, the last time with "
                        f"{type(error).__name__}: {error}"
                    ) from None
            time.sleep(pause)
            pause *= 2
        raise AssertionError

    def names(self) -> list[str]:
        def find(files: Any, path: str) -> list[str]:
            files.invalidate_cache()
            return sorted(str(found)[len(path) + 1 :] for found in files.find(path))

        try:
            return self._try("", find)
        except InputError as error:
            if str(error).endswith("no such file"):
                return []
            raise

    def size(self, name: str) -> int:
        return self._try(name, lambda files, path: int(files.size(path)))

    def read(self, name: str) -> bytes:
        return self._try(name, lambda files, path: bytes(files.cat_file(path)))

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        def read(files: Any, path: str) -> bytes:
            try:
                return bytes(files.cat_file(path, start=offset, end=offset + size))
            except OSError:
                if offset >= files.size(path):  # some stores refuse a range behind the end
                    return b""
                raise

        return self._try(name, read)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile(prefix="florence-") as file:
            yield file
            file.flush()
            self._try(name, lambda files, path: files.put_file(file.name, path))

    def checksum(self, name: str) -> tuple[int, str]:
        return _checksum(self, name)

    def holds(self, name: str, size: int, checksum: str) -> bool:
        try:
            return self.size(name) == size
        except InputError:
            return False

    def version(self, name: str) -> str:
        return self._try(name, lambda files, path: str(files.ukey(path)))

    def rename(self, old: str, new: str) -> None:
        self._try(old, lambda files, path: files.mv(path, f"{self._root}/{new}"))

    def remove(self, name: str) -> None:
        def remove(files: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                files.rm(path, recursive=True)

        self._try(name, remove)


def open_directory(url: str | Path) -> Directory:
    """The directory at a local path or a URL; it need not exist.

    Raises `InputError` for a protocol that is not one of `PROTOCOLS`, `pipe:` among them.
    """
    text = str(url)
    protocol, separator, rest = text.partition("://")
    if text.startswith("pipe:"):
        raise InputError(f"{text}: pipe: is refused, since it runs a command")
    if not separator:
        return LocalDirectory(url)
    if protocol == "file":
        return LocalDirectory(rest)
    if protocol not in PROTOCOLS or "::" in text:
        raise InputError(
            f"{text}: a URL begins with one of {', '.join(PROTOCOLS)}, without '::'; "
            "or give a local path"
        )
    return RemoteDirectory(text)


def _checksum(directory: Directory, name: str) -> tuple[int, str]:
    running = Checksum()
    while block := directory.read_range(name, running.bytes, BLOCK):
        running.update(block)
    return running.bytes, str(running)


def read(url: str | Path, offset: int = 0, size: int | None = None) -> bytes:
    """Up to `size` bytes from `offset` of a file at a local path or a URL; None reads to its end.

    Raises `InputError` if there is no such file.
    """
    folder, name = split_url(url)
    directory = _directory_of_files(folder)
    if size is None:
        size = max(0, directory.size(name) - offset)
    return directory.read_range(name, offset, size)


def version(url: str | Path) -> str:
    """The name of a file at a local path or a URL, and `Directory.version` of it."""
    folder, name = split_url(url)
    return f"{name}: {_directory_of_files(folder).version(name)}"


def split_url(url: str | Path) -> tuple[str, str]:
    """A file's directory and its name there."""
    folder, slash, name = str(url).rpartition("/")
    return folder or slash or ".", name


_directory_of_files = lru_cache(maxsize=64)(open_directory)


def _close_all(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        with suppress(OSError):
            os.close(descriptor)


def _sync_directory(path: Path) -> None:
    """Make a rename in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
