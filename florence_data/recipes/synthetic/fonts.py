"""The type faces of synthetic pages: well-known families where installed, Pillow's own anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Family:
    """A family by the names of its font files, which Pillow looks for in the system's folders.

    `regular` is None for the font inside Pillow; a family without `bold` is emboldened instead.
    """

    name: str
    regular: str | None
    bold: str | None

    def font(self, pixels: int, bold: bool = False) -> Font:
        """The font at an em size of `pixels`."""
        return _load((self.bold if bold else None) or self.regular, pixels)

    @property
    def installed(self) -> bool:
        """Whether both files are on this machine."""
        try:
            self.font(20)
            self.font(20, bold=True)
        except OSError:
            return False
        return True


BUNDLED = Family("Aileron", None, None)

WELL_KNOWN = (
    Family("DejaVu Sans", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    Family("DejaVu Sans Condensed", "DejaVuSansCondensed.ttf", "DejaVuSansCondensed-Bold.ttf"),
    Family("DejaVu Serif", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    Family("DejaVu Serif Condensed", "DejaVuSerifCondensed.ttf", "DejaVuSerifCondensed-Bold.ttf"),
    Family("DejaVu Sans Mono", "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    Family("Liberation Sans", "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    Family("Liberation Serif", "LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf"),
    Family("Liberation Mono", "LiberationMono-Regular.ttf", "LiberationMono-Bold.ttf"),
    Family("FreeSans", "FreeSans.ttf", "FreeSansBold.ttf"),
    Family("FreeSerif", "FreeSerif.ttf", "FreeSerifBold.ttf"),
    Family("FreeMono", "FreeMono.ttf", "FreeMonoBold.ttf"),
    Family("Noto Sans", "NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    Family("Noto Serif", "NotoSerif-Regular.ttf", "NotoSerif-Bold.ttf"),
    Family("Carlito", "Carlito-Regular.ttf", "Carlito-Bold.ttf"),
    Family("Caladea", "Caladea-Regular.ttf", "Caladea-Bold.ttf"),
    Family("Open Sans", "OpenSans-Regular.ttf", "OpenSans-Bold.ttf"),
    Family("Roboto", "Roboto-Regular.ttf", "Roboto-Bold.ttf"),
    Family("Lato", "Lato-Regular.ttf", "Lato-Bold.ttf"),
    Family("Arial", "Arial.ttf", "Arial Bold.ttf"),
    Family("Arial", "arial.ttf", "arialbd.ttf"),
    Family("Times New Roman", "Times New Roman.ttf", "Times New Roman Bold.ttf"),
    Family("Times New Roman", "times.ttf", "timesbd.ttf"),
    Family("Courier New", "Courier New.ttf", "Courier New Bold.ttf"),
    Family("Courier New", "cour.ttf", "courbd.ttf"),
    Family("Georgia", "Georgia.ttf", "Georgia Bold.ttf"),
    Family("Georgia", "georgia.ttf", "georgiab.ttf"),
)


@lru_cache(maxsize=1)
def installed_families() -> tuple[Family, ...]:
    """Pillow's own family, then the well-known ones on this machine, always in the same order."""
    return (BUNDLED, *(family for family in WELL_KNOWN if family.installed))


@lru_cache(maxsize=512)
def _load(file: str | None, pixels: int) -> Font:
    # The basic layout engine is in every build of Pillow, so the same text has the same pixels.
    if file is not None:
        return ImageFont.truetype(file, pixels, layout_engine=ImageFont.Layout.BASIC)
    bundled = ImageFont.load_default(pixels)
    if not isinstance(bundled, ImageFont.FreeTypeFont):
        raise OSError("this build of Pillow has no FreeType, and without it no scalable font")
    return bundled
