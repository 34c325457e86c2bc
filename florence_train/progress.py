"""The progress bar of training and prediction."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Questions a second, from the task's field `questions`, counted since its start."""

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        if not elapsed:
            return Text("")
        return Text(f"{task.fields['questions'] / elapsed:.1f} questions/s")


class _BarAndNote(Progress):
    """A bar, and under it what its task's field `note` says."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if note := task.fields["note"]:
                yield Text(note, style="dim", overflow="ellipsis", no_wrap=True)


def progress_bar(disable: bool = False) -> Progress:
    """A bar with rate and time left; each task has the fields `questions` and `note`."""
    return _BarAndNote(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        disable=disable,
    )
