"""Where the rows of a table have the images of their pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.image_check import whole_image
from florence_data.pdf import render_page
from florence_data.sample import Image, Location


@dataclass(frozen=True)
class PageImage:
    """The image of a row: embedded as the hub does it, or a file that the row names.

    A cell of `column` is `{"bytes", "path"}`, bytes, or a path relative to `directory`. A path that
    ends in `.pdf` is rendered at `dpi`; `page_column` says which page, from 1.
    """

    column: str
    directory: str = ""
    page_column: str | None = None
    dpi: int = 150

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `read` needs."""
        return (self.column,) if self.page_column is None else (self.column, self.page_column)

    def read(self, row: Mapping[str, Any], name: str) -> Image:
        """The image; `name` stands for it in error messages. Raises `DropError`."""
        cell = row.get(self.column)
        if isinstance(cell, Mapping):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, bytes):
            return whole_image(cell, name)
        if not cell:
            raise DropError("image missing")
        path = self.path(str(cell))
        if path.lower().endswith(".pdf"):
            return render_page(path, self._page(row), self.dpi)
        try:
            data = Location(path).read()
        except (InputError, OSError):
            raise DropError("image missing") from None
        return whole_image(data, path)

    def path(self, cell: str) -> str:
        """The path or URL that a cell means."""
        if not self.directory or "://" in cell:
            return cell
        if "://" in self.directory:
            return f"{self.directory}/{cell}"
        return str(PurePosixPath(self.directory) / cell.replace("\\", "/"))

    def _page(self, row: Mapping[str, Any]) -> int | None:
        cell = row.get(self.page_column) if self.page_column else None
        if cell is None or cell == "":
            return None
        try:
            return int(float(cell))
        except ValueError:
            raise DropError("page number that is none") from None
