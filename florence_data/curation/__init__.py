"""Curation: is a set sound, what is in it twice, and what of it is in an evaluation set."""

from florence_data.curation.decontaminate import (
    ContaminationReport,
    decontaminate,
    find_contamination,
)
from florence_data.curation.deduplicate import DuplicatesReport, deduplicate, find_duplicates
from florence_data.curation.repeats import Match, NearDuplicates
from florence_data.curation.validate import ValidationReport, validate

__all__ = [
    "ContaminationReport",
    "DuplicatesReport",
    "Match",
    "NearDuplicates",
    "ValidationReport",
    "decontaminate",
    "deduplicate",
    "find_contamination",
    "find_duplicates",
    "validate",
]
