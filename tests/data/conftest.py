"""Pages for the tests of shards and sets."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import PIL.Image
import pytest

from florence_data import Image, Region, Sample, SampleSet, Supervision

MakePages = Callable[..., SampleSet]


def page(number: int, split: str = "train", size: tuple[int, int] = (30, 40)) -> Sample:
    """A page of seeded noise with one to three questions; formats take turns."""
    noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    encoded = io.BytesIO()
    PIL.Image.fromarray(noise).save(encoded, ("PNG", "JPEG", "WEBP")[number % 3])
    return Sample(
        id=f"page {number}",
        source="noise",
        split=split,
        doc_id=f"document {number // 2}",
        image=Image.from_bytes(encoded.getvalue(), f"page {number}"),
        supervisions=tuple(
            Supervision(
                id=f"{number}.{question}",
                question=f"Wie heißt Nr. {question}?",
                answers=(f"“{number}”", "two"),
                regions=(Region(label="box", box=(1.0, 2.0, 3.0, 4.0)),),
                metadata={"question_types": ["form"], "n": question},
            )
            for question in range(1 + number % 3)
        ),
    )


@pytest.fixture(scope="session")
def make_pages() -> MakePages:
    """A function from a number (and a split, a size) to a set of so many pages."""

    def make(count: int, split: str = "train", size: tuple[int, int] = (30, 40)) -> SampleSet:
        return SampleSet.from_samples(page(number, split, size) for number in range(count))

    return make


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """A function from a directory to the content of every file in it and below."""

    def read(directory: Path) -> dict[str, bytes]:
        return {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }

    return read


@pytest.fixture(scope="session")
def same() -> Callable[[SampleSet, SampleSet], bool]:
    """A function that says whether two sets hold the same pages, bytes included, in one order."""

    def compare(one: SampleSet, other: SampleSet) -> bool:
        return [(s.to_json(), s.image.read()) for s in one] == [
            (s.to_json(), s.image.read()) for s in other
        ]

    return compare


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket on an S3 server of this machine."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            environment.setenv(name, value)
        running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        running.start()
        host, port = running.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
        running.stop()
