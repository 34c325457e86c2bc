"""The account of an import: what was read, what was kept, and what was dropped for which reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """The ledger of one unit: every one read is kept, or dropped for a reason."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count some as dropped; the reason is a short phrase without an id or a number."""
        if count:
            self.dropped[reason] += count

    @property
    def balanced(self) -> bool:
        """Whether the numbers add up."""
        return self.read == self.kept + self.dropped.total()

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.read + other.read, self.kept + other.kept, self.dropped + other.dropped)


@dataclass
class Account:
    """The ledgers of one import.

    `rows` are the source's own rows; a recipe counts each one when it reads it and again when it
    keeps or drops it. `questions` are supervisions: a recipe and the operators of a `SampleSet`
    count those read and dropped, and whoever consumes the samples counts those kept. `pages` are
    samples: the operator that drops one or the consumer that keeps it counts it as read, too.
    """

    rows: Tally = field(default_factory=Tally)
    pages: Tally = field(default_factory=Tally)
    questions: Tally = field(default_factory=Tally)

    def __add__(self, other: Account) -> Account:
        return Account(
            self.rows + other.rows, self.pages + other.pages, self.questions + other.questions
        )

    def keep_page(self, questions: int) -> None:
        """Count a page with so many questions as consumed."""
        self.pages.read += 1
        self.pages.kept += 1
        self.questions.kept += questions

    def drop_page(self, reason: str, questions: int) -> None:
        """Count a page and its questions, which were counted as read, as dropped."""
        self.pages.read += 1
        self.pages.drop(reason)
        self.questions.drop(reason, questions)

    def __str__(self) -> str:
        """One line a ledger, and one a reason."""
        lines = []
        for unit, tally in self.ledgers():
            dropped = tally.dropped.total()
            lines.append(f"{unit}: {tally.read:,} read, {tally.kept:,} kept, {dropped:,} dropped")
            lines += [f"  {count:,}: {reason}" for reason, count in sorted(tally.dropped.items())]
        return "\n".join(lines)

    def ledgers(self) -> tuple[tuple[str, Tally], ...]:
        """Each ledger with the name of its unit."""
        return ("rows", self.rows), ("pages", self.pages), ("questions", self.questions)
