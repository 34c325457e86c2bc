"""What is measured over some steps and written as one line of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from florence_train.timing import StepTimes


@dataclass
class Measurements:
    """Sums over steps and processes. Losses and target tokens are by source, those of skipped steps
    left out."""

    losses: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    questions: int = 0
    pages: int = 0
    flops: float = 0.0
    data_seconds: float = 0.0
    compute_seconds: float = 0.0
    optimizer_seconds: float = 0.0
    skipped: int = 0

    def add_times(self, times: StepTimes) -> None:
        """Add the times of a step."""
        self.data_seconds += times.data
        self.compute_seconds += times.compute
        self.optimizer_seconds += times.optimizer

    @classmethod
    def of_processes(cls, parts: Iterable[Measurements]) -> Measurements:
        """One for all processes: counts are added, times are the slowest process's."""
        whole = cls()
        for part in parts:
            for source, loss in part.losses.items():
                whole.losses[source] += loss  # not update: Counter would drop what is not an int
            whole.tokens.update(part.tokens)
            whole.questions += part.questions
            whole.pages += part.pages
            whole.flops += part.flops
            whole.skipped = max(whole.skipped, part.skipped)
            for name in ("data_seconds", "compute_seconds", "optimizer_seconds"):
                setattr(whole, name, max(getattr(whole, name), getattr(part, name)))
        return whole

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Measurements:
        """What `state` was taken of."""
        counters = {name: Counter(state[name]) for name in ("losses", "tokens")}
        return cls(**{**state, **counters})

    def state(self) -> dict[str, Any]:
        """The fields, for a checkpoint."""
        return {n: dict(v) if isinstance(v, Counter) else v for n, v in vars(self).items()}

    @property
    def loss(self) -> float | None:
        """Loss a target token; None where there is none."""
        tokens = self.tokens.total()
        return self.losses.total() / tokens if tokens else None

    @property
    def seconds(self) -> float:
        """All the time that was measured."""
        return self.data_seconds + self.compute_seconds + self.optimizer_seconds

    def line(self, peak_flops: float | None) -> dict[str, float | int | None]:
        """The log's form. `peak_flops` is of all devices together, a second, None if not known."""
        seconds = self.seconds
        line: dict[str, float | int | None] = {
            "loss": self.loss,
            "questions": self.questions,
            "pages": self.pages,
            "questions_per_second": self.questions / seconds,
            "pages_per_second": self.pages / seconds,
            "data_share": self.data_seconds / seconds,
            "compute_share": self.compute_seconds / seconds,
            "optimizer_share": self.optimizer_seconds / seconds,
            "flops_per_second": self.flops / seconds,
            "skipped_steps": self.skipped,
        }
        if peak_flops is not None:
            line["mfu"] = self.flops / seconds / peak_flops
        if len(self.losses) > 1:
            for source, loss in sorted(self.losses.items()):
                line[f"loss/{source}"] = loss / max(1, self.tokens[source])
        return line
