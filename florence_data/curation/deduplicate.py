"""One page a page: repeats are found, and their questions move to the page that stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from florence_data.account import Account
from florence_data.curation.repeats import MEASURED, Match, NearDuplicates, repeats_within
from florence_data.sample import Sample, Supervision
from florence_data.sample_set import SampleSet, Source

REPEATED_PAGE = "repeats another page"
REPEATED_QUESTION = "asked of the same page before"
MOVED_REGIONS = "has places on another scan of the page"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A page that is there again. `kind` is `exact` if its bytes are those of the page kept."""

    sample_id: str
    kind: Literal["exact", "near"]


@dataclass(frozen=True, slots=True)
class Group:
    """The scans of one page: the one with the most pixels stays, the first if several have them."""

    kept: str
    repeats: tuple[Repeat, ...]


@dataclass(frozen=True, slots=True)
class DuplicatesReport:
    """What was found in a set. `matches` are the pairs that the groups were built from."""

    pages: int
    groups: tuple[Group, ...]
    matches: tuple[Match, ...]

    def repeated(self, kind: Literal["exact", "near"]) -> int:
        """How many pages repeat another one in this way."""
        return sum(repeat.kind == kind for group in self.groups for repeat in group.repeats)

    def __str__(self) -> str:
        """The counts, then a line for each page that is there more than once."""
        lines = [
            f"{self.pages:,} pages: {self.repeated('exact'):,} repeat another one's bytes, "
            f"{self.repeated('near'):,} its looks; {len(self.groups):,} pages have repeats"
        ]
        for group in self.groups:
            repeats = ", ".join(f"{repeat.sample_id} ({repeat.kind})" for repeat in group.repeats)
            lines.append(f"  {group.kept}: {repeats}")
        return "\n".join(lines)


def find_duplicates(
    samples: SampleSet, near: NearDuplicates | None = MEASURED, workers: int = 1
) -> DuplicatesReport:
    """The pages that a set holds more than once.

    Exact repeats have the same bytes; near ones look the same (`near`, or None to compare bytes
    only). What is the same as the same page is one group. Raises `InputError` if sample ids are not
    unique, an image cannot be decoded, or the `curation` extra is absent where it is needed.
    """
    pages, matches = repeats_within(samples, near, workers)
    by_id = {page.sample_id: page for page in pages}
    order = {name: position for position, name in enumerate(by_id)}
    groups = []
    for members in _connected(matches):
        first, *others = sorted(members, key=lambda name: (-by_id[name].pixels, order[name]))
        repeats = tuple(
            Repeat(name, "exact" if by_id[name].sha256 == by_id[first].sha256 else "near")
            for name in sorted(others, key=order.__getitem__)
        )
        groups.append(Group(first, repeats))
    groups.sort(key=lambda group: order[group.kept])
    return DuplicatesReport(len(pages), tuple(groups), tuple(matches))


def deduplicate(samples: SampleSet, report: DuplicatesReport) -> SampleSet:
    """The set without the repeats that the report lists, their questions merged.

    A question goes to the page kept, under its own id, or `PAGE/ID` where that is taken. One that
    was asked there before adds only its new answers and is counted as dropped, as is one with
    regions where the scans differ: its pixels are those of another picture.
    """
    members = {
        name
        for group in report.groups
        for name in (group.kept, *(repeat.sample_id for repeat in group.repeats))
    }
    rows = {sample.id: sample.supervisions for sample in samples if sample.id in members}
    merged: dict[str, tuple[Supervision, ...]] = {}
    dropped: dict[str, Counter[str]] = {}
    for group in report.groups:
        page = _MergedPage(rows[group.kept])
        for repeat in group.repeats:
            dropped[repeat.sample_id] = page.take_in(repeat, rows[repeat.sample_id])
        merged[group.kept] = tuple(page.rows.values())
    return SampleSet(_Deduplicated(samples.source, merged, dropped))


class _MergedPage:
    """The questions of a page, by what is asked."""

    def __init__(self, rows: tuple[Supervision, ...]) -> None:
        self.rows: dict[tuple[object, ...], Supervision] = {}
        for row in rows:
            asked = _asked(row)
            self.rows[(*asked, row.id) if asked in self.rows else asked] = row

    def take_in(self, repeat: Repeat, rows: tuple[Supervision, ...]) -> Counter[str]:
        """Add the questions of a repeat; returns how many were dropped for which reason."""
        dropped: Counter[str] = Counter()
        for row in rows:
            before = self.rows.get(_asked(row))
            if before is not None:
                answers = dict.fromkeys((*before.answers, *row.answers))
                self.rows[_asked(row)] = replace(before, answers=tuple(answers))
                dropped[REPEATED_QUESTION] += 1
            elif row.regions and repeat.kind == "near":
                dropped[MOVED_REGIONS] += 1
            else:
                taken = {other.id for other in self.rows.values()}
                name = f"{repeat.sample_id}/{row.id}" if row.id in taken else row.id
                self.rows[_asked(row)] = replace(row, id=name)
        return dropped


def _asked(row: Supervision) -> tuple[object, ...]:
    """What tells one question on a page from another: the task, the words and the places."""
    return row.task, " ".join(row.question.casefold().split()), row.regions


@dataclass(frozen=True)
class _Deduplicated:
    """A source without repeats: `merged` by page kept, what was `dropped` by page that repeats."""

    source: Source
    merged: Mapping[str, tuple[Supervision, ...]]
    dropped: Mapping[str, Mapping[str, int]]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        for sample in self.source.read(start, stop, account):
            if sample.id in self.dropped:
                account.pages.read += 1
                account.pages.drop(REPEATED_PAGE)
                account.questions.dropped.update(self.dropped[sample.id])
            elif sample.id in self.merged:
                yield replace(sample, supervisions=self.merged[sample.id])
            else:
                yield sample


def _connected(matches: Iterable[Match]) -> list[set[str]]:
    """The sets of pages that matches connect, directly or through others."""
    group_of: dict[str, set[str]] = {}
    for match in matches:
        first = group_of.setdefault(match.first, {match.first})
        second = group_of.setdefault(match.second, {match.second})
        if first is not second:
            first |= second
            group_of.update(dict.fromkeys(second, first))
    return list({id(group): group for group in group_of.values()}.values())
