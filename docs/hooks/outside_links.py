"""For MkDocs: what a page links to outside docs/ is named, not linked, since no site page is there.

On a code host and in an editor those links work; the pages stay as they are for them.
"""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page's text with such links replaced by their labels."""
    return OUTSIDE.sub(r"\1", markdown)
