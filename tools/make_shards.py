"""Turn a data set into shards, one sub-command a recipe, and look after sets of shards."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec
import tyro

from florence_data import InputError, SampleSet, ShardReader, curation
from florence_data.conversion import parse_image_size
from florence_data.plain_tars import index_tars
from florence_data.recipes import RECIPES
from florence_data.shard_format import ImageDescription
from florence_data.shard_writer import ShardOptions, parse_size
from florence_data.sharding import InProcess, ProcessPool, shard


@dataclass(frozen=True)
class Output:
    """Where to and how the shards are written."""

    out: str
    """The shard set's directory, a local path or a URL (s3://, gs://, hf://); a new one."""
    limit: int | None = None
    """Only the first so many pages."""
    shard_size: str = "512MB"
    """Close a shard before it exceeds this: 2MB, 1GiB, …"""
    shard_pages: int | None = None
    """Close a shard after so many pages."""
    workers: int = 1
    """Processes that write."""
    resume: bool = False
    """Continue what an earlier run with the same flags left unfinished."""
    image_size: str = "none"
    """Store pages at this size in pixels: 768, WxH, or none for their own."""
    image_format: Literal["keep", "jpeg", "webp", "png"] = "keep"
    """Store pages in this format."""
    quality: int = 90
    """Of JPEG and WebP, where images are converted."""


def write(samples: SampleSet, output: Output, made_from: dict[str, Any]) -> None:
    """Write the shards and print their account."""
    description = shard(
        samples,
        output.out,
        options=ShardOptions(
            shard_size=parse_size(output.shard_size),
            shard_pages=output.shard_pages,
            images=ImageDescription(
                size=parse_image_size(output.image_size),
                format=output.image_format,
                quality=output.quality,
            ),
        ),
        made_from=made_from,
        executor=ProcessPool(output.workers) if output.workers > 1 else InProcess(),
        resume=output.resume,
        show_progress=True,
    )
    print(description.account)
    print(f"{description.samples} pages in {len(description.shards)} shards: {output.out}")


def command(name: str, recipe: Callable[..., SampleSet]) -> Callable[..., None]:
    """A recipe's sub-command: its own parameters as flags, and those of `Output`."""

    def run(output: Output, **arguments: Any) -> None:
        samples = recipe(**arguments)
        if output.limit is not None:
            samples = samples.subset(first=output.limit)
        write(samples, output, made_from={"recipe": name, **arguments, "limit": output.limit})

    hints = get_type_hints(recipe, include_extras=True)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
        for parameter in inspect.signature(recipe).parameters.values()
    ]
    flags = inspect.Parameter(
        "output",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=tyro.conf.OmitArgPrefixes[Output],
    )
    run.__signature__ = inspect.Signature([flags, *parameters])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (flags, *parameters)}
    run.__doc__ = recipe.__doc__
    return run


def index(directory: tyro.conf.Positional[str]) -> None:
    """Index WebDataset tars that others made, in one pass; they stay as they are.

    Args:
        directory: Holds the tars; the index is written beside them.
    """
    description = index_tars(directory)
    print(description.account)
    print(f"{description.samples} pages in {len(description.shards)} shards: {directory}")


def check(directory: tyro.conf.Positional[str]) -> None:
    """Read every shard of a set whole: its checksum, and the SHA-256 of its images.

    Args:
        directory: The set's directory.
    """
    reader = ShardReader(directory)
    reader.check()
    print(
        f"{len(reader)} pages in {len(reader.description.shards)} shards are as they were written"
    )


def stats(source: str) -> None:
    """What a set of shards holds, in numbers.

    Args:
        source: The set's directory.
    """
    print(SampleSet.from_shards(source).describe())


def validate(source: str, workers: int = 1, report: str | None = None) -> int:
    """Decode every image of a set and look for what is wrong; exits with 1 if anything is.

    Args:
        source: The set's directory.
        workers: Processes that decode.
        report: Write all problems to this JSON file.
    """
    found = curation.validate(SampleSet.from_shards(source), workers)
    publish(found, report)
    return 1 if found.problems else 0


def dedup(
    source: str,
    out: str | None = None,
    exact_only: bool = False,
    min_likeness: float = curation.NearDuplicates().likeness,
    workers: int = 1,
    report: str | None = None,
) -> None:
    """List the pages that a set holds more than once, and write it without, questions merged.

    Args:
        source: The set's directory.
        out: Write the set without repeats here; only report if not given.
        exact_only: Compare bytes, not looks.
        min_likeness: Pages that look alike by at least this count as the same.
        workers: Processes that decode and write.
        report: Write what was found to this JSON file.
    """
    near = None if exact_only else curation.NearDuplicates(likeness=min_likeness)
    samples = SampleSet.from_shards(source)
    found = curation.find_duplicates(samples, near, workers)
    publish(found, report)
    if out is not None:
        once = curation.deduplicate(samples, found)
        write(once, Output(out, workers=workers), {"command": "dedup", "source": source})


def decontaminate(
    source: str,
    against: str,
    out: str | None = None,
    exact_only: bool = False,
    min_likeness: float = curation.NearDuplicates().likeness,
    workers: int = 1,
    report: str | None = None,
) -> None:
    """List the pages of a set that are in an evaluation set too, and write it without them.

    Args:
        source: The set's directory.
        against: The evaluation set's directory.
        out: Write the clean set here; only report if not given.
        exact_only: Compare bytes, not looks.
        min_likeness: Pages that look alike by at least this count as the same.
        workers: Processes that decode and write.
        report: Write what was found to this JSON file.
    """
    near = None if exact_only else curation.NearDuplicates(likeness=min_likeness)
    samples = SampleSet.from_shards(source)
    found = curation.find_contamination(samples, SampleSet.from_shards(against), near, workers)
    publish(found, report)
    if out is not None:
        clean = curation.decontaminate(samples, found)
        made_from = {"command": "decontaminate", "source": source, "against": against}
        write(clean, Output(out, workers=workers), made_from)


def publish(report: object, path: str | None) -> None:
    """Print a report, and write it as JSON where a path is given."""
    print(report)
    if path is None:
        return
    try:
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


OF_SETS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (index, check, stats, validate, dedup, decontaminate)
}
"""What is done with tars that are already there."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    commands = {name: command(name, recipe) for name, recipe in RECIPES.items()} | OF_SETS
    try:
        code: int | None = tyro.extras.subcommand_cli_from_dict(
            commands, args=arguments, description=__doc__
        )
    except InputError as error:
        print(f"make_shards.py: {error}", file=sys.stderr)
        return 2
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
