"""Shards through every storage, a real S3 server among them, and connections that fail."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from florence_data import InputError, SampleSet, ShardReader, storage
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import ProcessPool, ShardingJob, shard
from florence_data.storage import LocalDirectory, RemoteDirectory, open_directory

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


class Failing:
    """A file system whose connection breaks a number of times."""

    def __init__(self, files: Any, failures: int) -> None:
        self.files = files
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.files, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise ConnectionResetError("connection reset by peer")
            return operation(*arguments, **options)

        return call


def test_a_connection_that_fails_is_tried_again_later_and_later(
    s3: str, pages: SampleSet, no_pauses: list[float], monkeypatch: pytest.MonkeyPatch, same: Same
) -> None:
    connect = RemoteDirectory._connect

    def connect_badly(directory: RemoteDirectory) -> None:
        connect(directory)
        directory._files = Failing(directory._files, storage.ATTEMPTS - 1)

    monkeypatch.setattr(RemoteDirectory, "_connect", connect_badly)
    shard(pages, f"{s3}/shaky", options=OPTIONS)
    first = no_pauses[: storage.ATTEMPTS - 1]
    assert first == [storage.FIRST_PAUSE * 2**n for n in range(storage.ATTEMPTS - 1)]
    assert same(SampleSet.from_shards(f"{s3}/shaky"), pages)


def test_a_connection_that_stays_broken_is_one_clear_line_and_can_be_resumed(
    s3: str, pages: SampleSet, no_pauses: list[float], monkeypatch: pytest.MonkeyPatch, same: Same
) -> None:
    put = RemoteDirectory.create
    written = 0

    def put_until_it_breaks(directory: RemoteDirectory, name: str) -> Any:
        nonlocal written
        written += 1
        if written == 5:
            directory._files = Failing(directory._files, 1000)
        return put(directory, name)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteDirectory, "create", put_until_it_breaks)
        with pytest.raises(
            InputError, match=r"failed 5 times, the last time with ConnectionResetError.*--resume"
        ) as error:
            shard(pages, f"{s3}/broken", options=OPTIONS)
    assert "\n" not in str(error.value)
    shard(pages, f"{s3}/broken", options=OPTIONS, resume=True)
    assert same(SampleSet.from_shards(f"{s3}/broken"), pages)


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
