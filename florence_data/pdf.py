"""Pages of PDF files as images, rendered with PDFium through the pypdfium2 package."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

from florence_data.drop import DropError
from florence_data.errors import InputError
from florence_data.sample import Image

POINTS_PER_INCH = 72


def render_page(path: str, page: int | None, dpi: int) -> Image:
    """Page `page` (from 1) of a PDF file as a PNG at `dpi` pixels an inch.

    Without a page number the file must have one page. Raises `DropError` if the file is missing or
    damaged or has no such page, `InputError` if pypdfium2 is not installed.
    """
    try:
        import pypdfium2
    except ImportError:
        raise InputError(
            f"{path}: PDF files need the pdf extra: pip install 'florence-docs[pdf]'"
        ) from None
    number = 1 if page is None else page
    if not Path(path).is_file():
        raise DropError("image missing")
    try:
        with closing(pypdfium2.PdfDocument(path)) as document:
            if page is None and len(document) > 1:
                raise DropError("PDF of several pages without a page number")
            if not 1 <= number <= len(document):
                raise DropError("no such page in the PDF")
            picture = document[number - 1].render(scale=dpi / POINTS_PER_INCH).to_pil()
    except pypdfium2.PdfiumError:
        raise DropError("PDF damaged or locked") from None
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return Image.from_bytes(encoded.getvalue(), f"{path} page {number}")
