"""Writing the files of an error report."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from florence_eval.comparison import Comparison
from florence_eval.error_report import overview
from florence_eval.error_report.escaping import script_json, text
from florence_eval.error_report.pages import PAGE, THUMBNAIL, Images, read_pages
from florence_eval.error_report.questions import Questions
from florence_eval.errors import InputError
from florence_eval.scores import Scores

NAME = "report.html"
FOLDER = "report_files"


@dataclass(frozen=True)
class Written:
    """A written report.

    path: of report.html.
    pages: pages stored with it.
    problems: why pages are not, and how many for each reason.
    """

    path: Path
    pages: int
    problems: dict[str, int]

    def __str__(self) -> str:
        return f"{self.path}: {_account(self.pages, self.problems)}"


def report(
    scores: Scores | Comparison,
    out: Path | str,
    *,
    images: Images | None = None,
    single_file: bool = False,
) -> Written:
    """Writes an error report into a folder, replacing the one there.

    scores: what `score` gives, or `compare(after, before)` for a before/after.
    out: the folder; it is made where it does not exist.
    images: gives the encoded image (JPEG, PNG, …) of a question's `image`, or None; each is asked
        for once. A mapping's `get` will do. Pages are stored at no more than 1600 pixels a side.
    single_file: everything in report.html, pages as thumbnails of 720 pixels.

    report.html appears when everything that it needs is there. Raises `InputError` where the folder
    cannot be written, or holds a `report_files` without a report.
    """
    comparison = scores if isinstance(scores, Comparison) else None
    questions = Questions(scores.a if isinstance(scores, Comparison) else scores, comparison)
    out = Path(out)
    with _replacing(out) as new:
        store: _Folder | _Inline = _Inline() if single_file else _Folder(new / FOLDER)
        sizes, problems = _store_pages(questions, images, store)
        for number, texts in enumerate(questions.texts()):
            store.add_texts(number, script_json(texts))
        stored = sum(1 for width, _ in sizes if width)
        page = _page(questions, sizes, store, _account(stored, problems))
        (new / NAME).write_text(page, encoding="utf-8")
    return Written(out / NAME, stored, dict(problems))


class _Folder:
    """Texts and pages as files beside the report."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blocks = ""
        for name in ("questions", "pages"):
            (root / name).mkdir(parents=True)

    def add_texts(self, number: int, texts: str) -> None:
        path = self.root / "questions" / f"{number}.js"
        path.write_text(f"questions({number},{texts})\n", encoding="utf-8")

    def add_page(self, number: int, data: bytes) -> None:
        (self.root / "pages" / f"{number}.jpg").write_bytes(data)


class _Inline:
    """Texts and pages as blocks of JSON in the report itself."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    @property
    def blocks(self) -> str:
        return "".join(self.parts)

    def add_texts(self, number: int, texts: str) -> None:
        self.parts.append(_block(f"questions-{number}", texts))

    def add_page(self, number: int, data: bytes) -> None:
        address = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        self.parts.append(_block(f"page-{number}", script_json(address)))


def _store_pages(
    questions: Questions, images: Images | None, store: _Folder | _Inline
) -> tuple[list[tuple[int, int]], Counter[str]]:
    """Stores the pages asked about; the size of each in pixels, and why some are not there."""
    if images is None:
        return [(0, 0)] * len(questions.images), Counter()
    size = THUMBNAIL if isinstance(store, _Inline) else PAGE
    sizes, problems = [], Counter[str]()
    for number, page in enumerate(read_pages(questions.images, images, size)):
        if page.data:
            store.add_page(number, page.data)
        else:
            problems[page.problem] += 1
        sizes.append((page.width, page.height))
    return sizes, problems


def _account(stored: int, problems: dict[str, int]) -> str:
    missing = "".join(f"; {count:,} {problem}" for problem, count in problems.items())
    return f"{stored:,} page images{missing}"


def _page(
    questions: Questions, sizes: list[tuple[int, int]], store: _Folder | _Inline, account: str
) -> str:
    """The HTML of the report."""
    static = files(__package__)
    style, script, page = (
        static.joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js", "page.html")
    )
    return Template(page).substitute(
        title=text(overview.title(questions)),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        headline=overview.headline(questions),
        slices=overview.slices(questions),
        distribution=overview.distribution(questions),
        categories=overview.categories(questions),
        details=overview.details(questions, account),
        blocks=_block("index", script_json(questions.index(sizes))) + store.blocks,
    )


def _hash(source: str) -> str:
    """What a Content-Security-Policy knows a style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _block(name: str, value: str) -> str:
    return f'<script type="application/json" id="{name}">{value}</script>\n'


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder to write a report into, which is then moved to `out` in place of an older one."""
    page, folder = out / NAME, out / FOLDER
    if folder.exists() and not page.exists():
        raise InputError(f"{folder}: exists, but {page} does not; remove it or name another folder")
    new = out / f".{NAME}.{os.getpid()}.part"
    try:
        new.mkdir(parents=True)
        yield new
        page.unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        if (new / FOLDER).exists():
            (new / FOLDER).replace(folder)
        (new / NAME).replace(page)
    except OSError as error:
        raise InputError(f"{error.filename or out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
