"""Shards through every storage, a real S3 server among them, and connections that fail."""

from __future__ import annotations

import os
import pickle
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from florence_data import InputError, SampleSet, ShardReader, storage
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import ProcessPool, ShardingJob, shard
from florence_data.storage import LocalDirectory, open_directory

OPTIONS = ShardOptions(item_pages=4, shard_size=20_000)
Same = Callable[[SampleSet, SampleSet], bool]


@pytest.fixture
def pages(make_pages: Callable[..., SampleSet], tmp_path: Path) -> SampleSet:
    """Thirty pages in local shards."""
    shard(make_pages(30), tmp_path / "pages")
    return SampleSet.from_shards(tmp_path / "pages")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time; the list collects how long it would have taken."""
    pauses: list[float] = []
    monkeypatch.setattr("florence_data.storage.time.sleep", pauses.append)
    return pauses


def test_memory_holds_what_a_local_directory_holds(
    pages: SampleSet, tmp_path: Path, same: Same
) -> None:
    shard(pages, tmp_path / "local", options=OPTIONS)
    shard(pages, "memory://set", options=OPTIONS)
    local, memory = open_directory(tmp_path / "local"), open_directory("memory://set")
    assert memory.names() == local.names()
    assert all(memory.read(name) == local.read(name) for name in local.names())
    assert same(SampleSet.from_shards("memory://set"), pages)


def test_s3_holds_what_a_local_directory_holds(
    s3: str, pages: SampleSet, tmp_path: Path, same: Same
) -> None:
    shard(pages, tmp_path / "local", options=OPTIONS)
    shard(pages, f"{s3}/set", options=OPTIONS)
    local, remote = open_directory(tmp_path / "local"), open_directory(f"{s3}/set")
    assert remote.names() == local.names()
    assert all(remote.read(name) == local.read(name) for name in local.names())
    assert same(SampleSet.from_shards(f"{s3}/set"), pages)
    assert ShardReader(f"{s3}/set")["page 17"].id == "page 17"
    with pytest.raises(InputError, match="already holds a shard set"):
        shard(pages, f"{s3}/set", options=OPTIONS)


def test_a_job_on_s3_is_resumed_by_other_processes(s3: str, pages: SampleSet, same: Same) -> None:
    job = ShardingJob(pages.source, f"{s3}/resumed", OPTIONS)
    job.begin(resume=False)
    job.run_item(3)
    with pytest.raises(InputError, match="unfinished"):
        SampleSet.from_shards(f"{s3}/resumed")
    assert 3 not in job.remaining()
    shard(pages, f"{s3}/resumed", options=OPTIONS, executor=ProcessPool(2), resume=True)
    assert same(SampleSet.from_shards(f"{s3}/resumed"), pages)


def test_a_range_behind_the_end_is_empty_everywhere(s3: str, tmp_path: Path) -> None:
    for url in (str(tmp_path), "memory://ranges", f"{s3}/ranges"):
        directory = open_directory(url)
        with directory.create("file") as file:
            file.write(b"0123456789")
        assert directory.read_range("file", 7, 100) == b"789"
        assert directory.read_range("file", 10, 100) == b""
        assert directory.size("file") == 10
        directory.rename("file", "renamed")
        assert directory.names() == ["renamed"]
        directory.remove("renamed")
        directory.remove("renamed")
        assert directory.names() == []


class CuttingProxy:
    """Stands between a client and a server, and cuts connections in the middle of what they carry.

    Each of `cuts` connections is reset after `after` bytes, counted in both directions.
    """

    def __init__(self, host: str, port: int, after: int) -> None:
        self.cuts = 0
        self.done = 0
        self._server, self._after = (host, port), after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{1}".format(*self._listener.getsockname())
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        carried, ends = 0, {client: server, server: client}
        with client, server, suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(4096)
                    if not data:
                        return
                    carried += len(data)
                    if self.cuts and carried > self._after:
                        self.cuts -= 1
                        self.done += 1
                        reset = struct.pack("ii", 1, 0)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                        return
                    ends[end].sendall(data)

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()


@pytest.fixture
def proxy(
    s3: str, no_pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CuttingProxy]:
    """A proxy before the S3 server, for everything that is opened from here on.

    The client's own attempts are turned off: what is seen is what this package does.
    """
    host, _, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").partition(":")
    proxy = CuttingProxy(host, int(port), after=10_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.close()
    s3fs.S3FileSystem.clear_instance_cache()


def test_connections_cut_midway_lose_nothing(
    s3: str, proxy: CuttingProxy, no_pauses: list[float], pages: SampleSet, same: Same
) -> None:
    proxy.cuts = storage.ATTEMPTS - 1
    shard(pages, f"{s3}/cut", options=OPTIONS)
    assert proxy.done == storage.ATTEMPTS - 1 and no_pauses
    proxy.cuts = storage.ATTEMPTS - 1
    assert same(SampleSet.from_shards(f"{s3}/cut"), pages)
    assert proxy.done == 2 * (storage.ATTEMPTS - 1)


def test_a_connection_that_is_always_cut_is_one_clear_line(
    s3: str, proxy: CuttingProxy, no_pauses: list[float], pages: SampleSet, same: Same
) -> None:
    proxy.cuts = 1_000
    with pytest.raises(InputError, match=r"s3://\S+tar: failed 5 times, .*with --resume") as error:
        shard(pages, f"{s3}/always-cut", options=OPTIONS)
    assert "\n" not in str(error.value)
    assert no_pauses == [storage.FIRST_PAUSE * 2**n for n in range(storage.ATTEMPTS - 1)]
    proxy.cuts = 0
    shard(pages, f"{s3}/always-cut", options=OPTIONS, resume=True)
    assert same(SampleSet.from_shards(f"{s3}/always-cut"), pages)


@pytest.mark.parametrize(
    "url",
    [
        "pipe:cat shards.tar",
        "pipe://cat",
        "ssh://host/dir",
        "github://x:y@z/",
        "simplecache::s3://b/c",
        "s3://b/c::zip://d",
        "reference://x",
        "local://x",
    ],
)
def test_a_url_that_could_do_more_than_name_a_place_is_refused(url: str) -> None:
    for use in (open_directory, SampleSet.from_shards):
        with pytest.raises(InputError, match=r"pipe: is refused|a URL begins with one of"):
            use(url)


def test_a_missing_directory_says_what_is_missing(tmp_path: Path) -> None:
    for url in (tmp_path / "nowhere", "memory://nowhere"):
        with pytest.raises(InputError, match=r"nowhere: no shard set \(dataset.json is missing"):
            SampleSet.from_shards(url)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: No such file"):
        LocalDirectory(tmp_path).read("absent")
    with pytest.raises(InputError, match="memory://x/absent: no such file"):
        open_directory("memory://x").read("absent")


def test_a_reader_goes_to_another_process_as_its_url(pages: SampleSet, tmp_path: Path) -> None:
    pickled = pickle.dumps(pages.source)
    assert len(pickled) < 500
    assert pickle.loads(pickled)[3].id == "page 3"


def test_a_local_file_is_not_there_until_it_is_whole(tmp_path: Path) -> None:
    directory = LocalDirectory(tmp_path)
    with directory.create("file") as file:
        file.write(b"half")
        assert directory.names() == []
    assert directory.names() == ["file"]
    with pytest.raises(ZeroDivisionError), directory.create("other"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_more_shards_than_open_files_are_read(
    make_pages: Callable[..., SampleSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    same: Same,
) -> None:
    monkeypatch.setattr(LocalDirectory, "OPEN_FILES", 2)
    shard(make_pages(9), tmp_path / "set", options=ShardOptions(shard_pages=1))
    read = SampleSet.from_shards(tmp_path / "set")
    assert same(read, make_pages(9))
    assert same(read.shuffle(1), make_pages(9).shuffle(1))
