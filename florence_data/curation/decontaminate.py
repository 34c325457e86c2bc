"""Training pages that are also in an evaluation set."""

from __future__ import annotations

from dataclasses import dataclass

from florence_data.curation.repeats import MEASURED, Match, NearDuplicates, repeats_across
from florence_data.sample import Sample
from florence_data.sample_set import SampleSet

CONTAMINATED = "also in the evaluation set"


@dataclass(frozen=True, slots=True)
class ContaminationReport:
    """Each match is a page of the first set (`first`) that is one of the evaluation set."""

    pages: int
    evaluation_pages: int
    matches: tuple[Match, ...]

    @property
    def contaminated(self) -> frozenset[str]:
        """The ids of the first set's pages that are in the evaluation set."""
        return frozenset(match.first for match in self.matches)

    def __str__(self) -> str:
        """The counts, then a line for each match."""
        lines = [
            f"{self.pages:,} pages against {self.evaluation_pages:,} of the evaluation set: "
            f"{len(self.contaminated):,} are in both"
        ]
        lines += (
            f"  {match.first} is {match.second} ({match.kind}, likeness {match.likeness:.2f})"
            for match in self.matches
        )
        return "\n".join(lines)


def find_contamination(
    samples: SampleSet,
    against: SampleSet,
    near: NearDuplicates | None = MEASURED,
    workers: int = 1,
) -> ContaminationReport:
    """The pages of `samples` that are in `against` too: the same bytes, or the same to the eye.

    Raises `InputError` as `find_duplicates` does.
    """
    pages, others, matches = repeats_across(samples, against, near, workers)
    return ContaminationReport(len(pages), len(others), tuple(matches))


def decontaminate(samples: SampleSet, report: ContaminationReport) -> SampleSet:
    """The set without the pages that the report lists; they are counted as dropped."""
    return samples.filter(_IsClean(report.contaminated), CONTAMINATED)


@dataclass(frozen=True)
class _IsClean:
    contaminated: frozenset[str]

    def __call__(self, sample: Sample) -> bool:
        return sample.id not in self.contaminated
