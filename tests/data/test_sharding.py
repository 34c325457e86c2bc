"""A sharding job gives the same bytes whoever runs it, however often it is stopped."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import PIL.Image
import pytest
from msgspec.structs import replace
from rich.console import Console

from florence_data import Account, InputError, Sample, SampleSet, Tally
from florence_data.operators import Source
from florence_data.recipes.folder import folder
from florence_data.shard_format import ImageDescription
from florence_data.shard_writer import ShardOptions
from florence_data.sharding import ProcessPool, ShardingJob, shard
from florence_data.sharding_progress import Advance, progress_bar

FilesOf = Callable[[Path], dict[str, bytes]]
MakePages = Callable[..., SampleSet]

OPTIONS = ShardOptions(item_pages=4, shard_size=20_000)


@pytest.fixture
def pages(make_pages: MakePages, tmp_path: Path) -> SampleSet:
    """Pages in shards, so that another process can read them."""
    shard(make_pages(30), tmp_path / "pages")
    return SampleSet.from_shards(tmp_path / "pages")


@dataclass(frozen=True)
class FailsAt:
    """A source that fails when one position is read."""

    source: Source
    position: int
    error: Exception

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for position in range(start, stop):
            if position == self.position:
                raise self.error
            yield from self.source.read(position, position + 1, account)


def test_a_pool_writes_the_bytes_of_one_process(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf
) -> None:
    shard(pages, tmp_path / "one", options=OPTIONS)
    shard(pages, tmp_path / "pool", options=OPTIONS, executor=ProcessPool(2))
    assert files_of(tmp_path / "pool") == files_of(tmp_path / "one")


def test_datatrove_writes_the_bytes_of_one_process(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf
) -> None:
    local = pytest.importorskip("datatrove.executor")
    from florence_data.datatrove_steps import Finish, WriteItems

    shard(pages, tmp_path / "one", options=OPTIONS)
    job = ShardingJob(pages.source, str(tmp_path / "trove"), OPTIONS)
    job.begin(resume=False)
    logs = str(tmp_path / "logs")
    write = local.LocalPipelineExecutor(
        [WriteItems(job)], tasks=3, workers=1, logging_dir=f"{logs}/write"
    )
    local.LocalPipelineExecutor([Finish(job)], depends=write, logging_dir=f"{logs}/finish").run()
    assert files_of(tmp_path / "trove") == files_of(tmp_path / "one")


def test_items_cover_every_position_once_in_whole_shards(make_pages: MakePages) -> None:
    pages = make_pages(30)
    for item_pages, shard_pages in [(4, None), (7, 3), (1, 1), (100, 8), (2, 5)]:
        options = ShardOptions(item_pages=item_pages, shard_pages=shard_pages)
        items = ShardingJob(pages.source, "nowhere", options).items()
        assert [position for item in items for position in item] == list(range(30))
        if shard_pages:
            assert all(len(item) % shard_pages == 0 for item in items[:-1])


@pytest.mark.parametrize("done", range(9))
def test_resume_does_only_what_is_left(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf, done: int
) -> None:
    shard(pages, tmp_path / "whole", options=OPTIONS)
    target = tmp_path / "set"
    job = ShardingJob(pages.source, str(target), OPTIONS)
    job.begin(resume=False)
    for item in range(min(done, len(job.items()))):
        job.run_item(item)
    assert job.remaining() == list(range(done, len(job.items())))
    shard(pages, target, options=OPTIONS, resume=True)
    assert files_of(target) == files_of(tmp_path / "whole")


def test_a_shard_that_was_changed_meanwhile_is_written_again(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf
) -> None:
    shard(pages, tmp_path / "whole", options=OPTIONS)
    job = ShardingJob(pages.source, str(tmp_path / "set"), OPTIONS)
    job.begin(resume=False)
    job.run_item(0)
    tar = next((tmp_path / "set" / "unfinished").glob("000000-*.tar"))
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    assert 0 in job.remaining()
    shard(pages, tmp_path / "set", options=OPTIONS, resume=True)
    assert files_of(tmp_path / "set") == files_of(tmp_path / "whole")


def test_a_finished_set_is_left_as_it_is_by_resume(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf
) -> None:
    first = shard(pages, tmp_path / "set", options=OPTIONS)
    before = files_of(tmp_path / "set")
    assert shard(pages, tmp_path / "set", options=OPTIONS, resume=True) == first
    assert files_of(tmp_path / "set") == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_source_or_other_options_are_refused(
    pages: SampleSet, tmp_path: Path, finished: bool
) -> None:
    target = tmp_path / "set"
    if finished:
        shard(pages, target, options=OPTIONS)
    else:
        ShardingJob(pages.source, str(target), OPTIONS).begin(resume=False)
    with pytest.raises(InputError, match=r"already holds|unfinished shard set"):
        shard(pages, target, options=OPTIONS)
    for samples, options, made_from in [
        (pages.subset(first=29), OPTIONS, None),
        (pages.shuffle(1), OPTIONS, None),
        (pages, ShardOptions(item_pages=4, shard_size=20_001), None),
        (pages, ShardOptions(item_pages=4, images=ImageDescription(size=(8, 8))), None),
        (pages, OPTIONS, {"recipe": "another"}),
    ]:
        with pytest.raises(InputError, match="another source or with other options"):
            shard(samples, target, options=options, made_from=made_from, resume=True)


def test_resume_notices_a_change_in_the_middle_of_a_source(
    make_pages: MakePages, tmp_path: Path
) -> None:
    def rows(answers: list[str]) -> list[dict[str, str]]:
        return [{"image": f"{n}.png", "question": "q", "answer": a} for n, a in enumerate(answers)]

    PIL.Image.new("L", (8, 8)).save(tmp_path / "0.png")
    for number in range(1, 5):
        shutil.copy(tmp_path / "0.png", tmp_path / f"{number}.png")
    csv, parquet, lines = (tmp_path / f"t.{suffix}" for suffix in ("csv", "parquet", "jsonl"))

    def write(middle: str) -> None:
        table = pd.DataFrame(rows(["1", "2", middle, "4", "5"]))
        table.to_csv(csv, index=False)
        table.to_parquet(parquet)
        pages = list(make_pages(5))
        pages[2] = replace(pages[2], doc_id=middle)
        SampleSet.from_samples(pages).to_jsonl(lines)
        shutil.rmtree(tmp_path / "shards", ignore_errors=True)
        shard(SampleSet.from_samples(pages), tmp_path / "shards")

    def sources() -> dict[str, SampleSet]:
        return {
            "csv": folder(str(tmp_path), table=str(csv)),
            "parquet": folder(str(tmp_path), table=str(parquet)),
            "lines": SampleSet.from_jsonl(lines),
            "shards": SampleSet.from_shards(tmp_path / "shards"),
        }

    write("3")
    for name, samples in sources().items():
        job = ShardingJob(samples.source, str(tmp_path / f"from-{name}"), OPTIONS)
        job.begin(resume=False)
        job.begin(resume=True)
    write("33")
    for name, samples in sources().items():
        with pytest.raises(InputError, match="another source or with other options"):
            shard(samples, tmp_path / f"from-{name}", options=OPTIONS, resume=True)


def test_an_unfinished_set_is_not_read(pages: SampleSet, tmp_path: Path) -> None:
    job = ShardingJob(pages.source, str(tmp_path / "set"), OPTIONS)
    job.begin(resume=False)
    job.run_item(0)
    with pytest.raises(InputError, match=r"unfinished shard set .*--resume"):
        SampleSet.from_shards(tmp_path / "set")
    with pytest.raises(InputError, match=r"000001.json"):
        job.finish()


def test_tars_of_someone_else_are_not_overwritten(pages: SampleSet, tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"train-000000.tar already"):
        shard(pages, tmp_path)
    assert (tmp_path / "train-000000.tar").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("row 17: no image"), "positions 16 to 19.*row 17: no image"),
        (RuntimeError("boom"), r"RuntimeError\('boom'\)"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_a_failing_item_says_where_and_can_be_resumed(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf, error: Exception, message: str
) -> None:
    failing = SampleSet(FailsAt(pages.source, 17, error))
    with pytest.raises(InputError, match=f"{message}.*--resume"):
        shard(failing, tmp_path / "set", options=OPTIONS)
    assert not list((tmp_path / "set").rglob("*.tmp"))
    shard(pages, tmp_path / "set", options=OPTIONS, resume=True)
    shard(pages, tmp_path / "whole", options=OPTIONS)
    assert files_of(tmp_path / "set") == files_of(tmp_path / "whole")


def test_a_failing_item_in_a_pool_says_where(pages: SampleSet, tmp_path: Path) -> None:
    (tmp_path / "pages" / "train-000000.tar").write_bytes(
        (tmp_path / "pages" / "train-000000.tar").read_bytes()[:30_000]
    )
    with pytest.raises(InputError, match=r"work item|expected \d+"):
        shard(pages, tmp_path / "set", options=OPTIONS, executor=ProcessPool(2))


def test_a_lambda_cannot_go_to_a_pool_and_the_error_says_so(pages: SampleSet) -> None:
    with pytest.raises(InputError, match=r"map: .*<lambda> cannot be sent to another process"):
        pages.map(lambda sample: sample)
    with pytest.raises(InputError, match=r"filter: .*<lambda> cannot be sent"):
        pages.filter(lambda sample: True)


def test_the_disk_s_limit_is_one_clear_line(pages: SampleSet, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        with pytest.raises(InputError, match=r"File too large.*continue with --resume"):
            shard(pages, tmp_path / "set", options=ShardOptions(item_pages=8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "set").rglob("*.tar"))
    described = shard(pages, tmp_path / "set", options=ShardOptions(item_pages=8), resume=True)
    assert described.samples == 30


def odd(sample: Sample) -> bool:
    """Whether a page's number is odd."""
    return int(sample.id.split()[1]) % 2 == 1


def without_questions(sample: Sample) -> Sample:
    """The page alone."""
    return Sample(
        id=sample.id,
        source=sample.source,
        split=sample.split,
        doc_id=sample.doc_id,
        image=sample.image,
        supervisions=(),
    )


def test_the_account_adds_up_and_is_stored(pages: SampleSet, tmp_path: Path) -> None:
    questions = sum(len(page.supervisions) for page in pages)
    of_odd = sum(len(page.supervisions) for page in pages if odd(page))
    kept = pages.filter(odd, "even pages").map(without_questions)
    shard(kept, tmp_path / "set", options=OPTIONS)
    account = json.loads((tmp_path / "set" / "dataset.json").read_text())["account"]
    assert account == {
        "rows": {"read": 30, "kept": 30, "dropped": {}},
        "pages": {"read": 30, "kept": 15, "dropped": {"even pages": 15}},
        "questions": {
            "read": questions,
            "kept": 0,
            "dropped": {"even pages": questions - of_odd, "removed by without_questions": of_odd},
        },
    }


def test_dropping_none_lists_no_reason() -> None:
    tally = Tally()
    tally.drop("too small", 0)
    assert not list(tally.dropped)


@dataclass(frozen=True)
class Forgets:
    """A source that reads a row and neither keeps nor drops it."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        account.rows.read += 1
        yield from self.source.read(start, stop, account)


def test_an_account_that_does_not_add_up_is_an_error(pages: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="account of the rows does not add up: 38 read, 30 kept"):
        shard(SampleSet(Forgets(pages.source)), tmp_path / "set", options=OPTIONS)


def test_reports_add_up_to_the_whole_job(pages: SampleSet, tmp_path: Path) -> None:
    reports: list[Advance] = []
    job = ShardingJob(pages.filter(odd).source, str(tmp_path / "set"), OPTIONS)
    job.begin(resume=False)
    for item in job.remaining():
        job.run_item(item, reports.append)
    job.finish()
    assert sum(report.positions for report in reports) == 30
    assert sum(report.dropped for report in reports) == 15
    tars = sum(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
    ends = 1024 * len(list((tmp_path / "set").glob("*.tar")))
    assert sum(report.bytes for report in reports) == tars - ends


def test_the_bar_shows_pages_rates_the_rest_and_what_was_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    terminal = functools.partial(Console, file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("florence_data.sharding_progress.Console", lambda stderr: terminal())
    with progress_bar(100, already=20, show=True) as report:
        time.sleep(0.05)
        report(Advance(positions=50, bytes=2_000_000, dropped=7))
        time.sleep(0.05)
        report(Advance(positions=10, bytes=500_000, dropped=1))
    shown = screen.getvalue()
    assert "80/100" in shown and "8 dropped" in shown
    assert re.search(r"\d+ pages/s +[\d.]+ MB/s", shown) and re.search(r"\d:\d\d:\d\d", shown)


KILLED = """
    import sys
    from florence_data import SampleSet
    from florence_data.shard_writer import ShardOptions
    from florence_data.sharding import InProcess, ProcessPool, shard

    if __name__ == "__main__":
        source, target, workers, resume = sys.argv[1:]
        samples = SampleSet.from_shards(source)
        print("begun", flush=True)
        shard(
            samples,
            target,
            options=ShardOptions(item_pages=4, shard_size=20_000),
            executor=ProcessPool(int(workers)) if int(workers) > 1 else InProcess(),
            resume=resume == "yes",
        )
"""


class Job:
    """A sharding job in a process of its own, which can be killed."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.script = folder / "job.py"
        self.script.write_text(textwrap.dedent(KILLED))
        self.source, self.target = folder / "pages", folder / "set"
        self.workers = workers

    def start(self) -> subprocess.Popen[bytes]:
        """Start the job, or resume it; it has begun when this returns."""
        begun = [self.target / "unfinished" / "job.json", self.target / "dataset.json"]
        resume = "yes" if any(path.exists() for path in begun) else "no"
        process = subprocess.Popen(
            [sys.executable, self.script, self.source, self.target, str(self.workers), resume],
            env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2])),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def run(self) -> float:
        """Run it to its end; returns the seconds that it took after it had begun."""
        process = self.start()
        begun = time.monotonic()
        assert process.wait() == 0
        return time.monotonic() - begun


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_killed_at_random_moments_resumes_to_the_same_bytes(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf, workers: int
) -> None:
    """FLORENCE_KILLS sets how often; sometimes the pool's processes are left to end themselves."""
    chance = random.Random(workers)
    shard(pages, tmp_path / "whole", options=OPTIONS)
    job = Job(tmp_path, workers)
    seconds = job.run()
    kills = int(os.environ.get("FLORENCE_KILLS", "1"))
    while kills:
        shutil.rmtree(job.target)
        while kills and not (job.target / "dataset.json").exists():
            process = job.start()
            time.sleep(seconds * chance.random())
            if process.poll() is None:
                kills -= 1
                if chance.random() < 0.5:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
            process.wait()
        job.run()
        assert files_of(job.target) == files_of(tmp_path / "whole")


class Died(BaseException):
    """The process is no more."""


class Lifetime:
    """A process that dies before a rename of a file, and from then on does nothing."""

    def __init__(self, renames: int) -> None:
        self.renames = renames
        self._replace, self._unlink = Path.replace, Path.unlink

    def __enter__(self) -> None:
        patch = pytest.MonkeyPatch()
        self._patch = patch
        patch.setattr(Path, "replace", lambda path, target: self._rename(path, target))
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: self._remove(path, missing_ok))

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _rename(self, path: Path, target: Path) -> Path:
        if not self.renames:
            raise Died
        self.renames -= 1
        return self._replace(path, target)

    def _remove(self, path: Path, missing_ok: bool) -> None:
        if not self.renames:
            raise Died
        self._unlink(path, missing_ok)


def test_a_job_that_dies_before_any_of_its_renames_resumes_to_the_same_bytes(
    pages: SampleSet, tmp_path: Path, files_of: FilesOf
) -> None:
    few = pages.subset(first=8)
    shard(few, tmp_path / "whole", options=OPTIONS)
    for renames in range(100):
        target = tmp_path / f"set-{renames}"
        try:
            with Lifetime(renames):
                shard(few, target, options=OPTIONS)
            finished = True
        except Died:
            finished = False
        begun = (target / "unfinished" / "job.json").exists() or (target / "dataset.json").exists()
        shard(few, target, options=OPTIONS, resume=begun)
        assert files_of(target) == files_of(tmp_path / "whole")
        if finished:
            assert renames > 10
            return
    raise AssertionError("the job never finished")
