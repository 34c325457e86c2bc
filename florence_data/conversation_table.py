"""Tables of images and a conversation a row, each row one sample.

The Cauldron and Docmatix are published so: `images: list[{bytes, path}]` and
`texts: list[{user, assistant, source}]`, each turn a question with its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from florence_data.account import Account
from florence_data.drop import DropError
from florence_data.image_check import whole_image
from florence_data.multi_image import stitch
from florence_data.parquet import ParquetRows
from florence_data.sample import Image, Sample, Supervision

COLUMNS = ("images", "texts")

MultiImage = Literal["skip", "first", "stitch"]


@dataclass(frozen=True)
class Turn:
    """One question with its answer, and what is known beside them."""

    question: str
    answer: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def noting(self, **metadata: Any) -> Turn:
        """The turn with more metadata."""
        return replace(self, metadata={**self.metadata, **metadata})


ReadTurn = Callable[[Mapping[str, Any]], Turn]
"""Makes a turn of an element of `texts`; raises `DropError`. Picklable."""


@dataclass(frozen=True)
class Conversations:
    """Rows of images and conversations as a source of samples."""

    table: ParquetRows
    source: str
    split: str
    multi_image: MultiImage
    read_turn: ReadTurn

    def __len__(self) -> int:
        return len(self.table)

    def read(self, start: int, stop: int, account: Account) -> Iterator[Sample]:
        """The samples of rows `start` to `stop - 1`."""
        rows = self.table.take(range(start, stop), COLUMNS)
        for position, row in enumerate(rows, start):
            account.rows.read += 1
            sample_id = f"{self.source}_{position:07d}"
            supervisions = self._supervisions(row["texts"] or (), sample_id, account)
            try:
                if not supervisions:
                    raise DropError("no question left")
                image = self._image(row["images"] or (), sample_id)
            except DropError as reason:
                account.rows.drop(str(reason))
                if supervisions:
                    account.questions.drop(str(reason), len(supervisions))
                continue
            account.rows.kept += 1
            yield Sample(
                id=sample_id,
                source=self.source,
                split=self.split,
                doc_id=sample_id,
                image=image,
                supervisions=supervisions,
            )

    def _supervisions(
        self, cells: Sequence[Mapping[str, Any]], sample_id: str, account: Account
    ) -> tuple[Supervision, ...]:
        account.questions.read += len(cells)
        supervisions = []
        for number, cell in enumerate(cells):
            try:
                turn = self.read_turn(cell)
                if not turn.question.strip():
                    raise DropError("empty question")
                if not turn.answer.strip():
                    raise DropError("empty answer")
            except DropError as reason:
                account.questions.drop(str(reason))
                continue
            supervisions.append(
                Supervision(
                    id=f"{sample_id}_{number}",
                    question=turn.question.strip(),
                    answers=(turn.answer.strip(),),
                    metadata=turn.metadata,
                )
            )
        return tuple(supervisions)

    def _image(self, cells: Sequence[Mapping[str, Any]], name: str) -> Image:
        if not cells:
            raise DropError("row without an image")
        if len(cells) > 1 and self.multi_image == "skip":
            raise DropError("row with several images")
        used = cells if self.multi_image == "stitch" else cells[:1]
        images = [whole_image(cell["bytes"], name) for cell in used]
        return images[0] if len(images) == 1 else stitch(images, name)
