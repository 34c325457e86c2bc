"""Regions drawn on their page."""

from __future__ import annotations

from collections.abc import Iterable

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from florence_data import Region

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Of Okabe and Ito, told apart with any colour vision; their yellow is too pale for paper."""


def draw_regions(picture: PIL.Image.Image, regions: Iterable[Region]) -> PIL.Image.Image:
    """A copy of an RGB picture with outlines of regions and their labels above them.

    Regions are in the picture's pixels. Those of one label share a colour, in the order in which
    the labels come.
    """
    drawn = picture.copy()
    draw = PIL.ImageDraw.Draw(drawn)
    width = max(2, round(max(picture.size) / 400))
    font = PIL.ImageFont.load_default(max(12, round(max(picture.size) / 110)))
    colours: dict[str, str] = {}
    for region in regions:
        colour = colours.setdefault(region.label, COLOURS[len(colours) % len(COLOURS)])
        outlines = list(region.polygons)
        if region.box is not None:
            x1, y1, x2, y2 = region.box
            outlines.append((x1, y1, x2, y1, x2, y2, x1, y2))
        for outline in outlines:
            draw.line((*outline, *outline[:2]), fill=colour, width=width, joint="curve")
        if region.label and outlines:
            place = min(outlines[0][0::2]), min(outlines[0][1::2])
            _write_label(draw, region.label, place, colour, font)
    return drawn


def _write_label(
    draw: PIL.ImageDraw.ImageDraw,
    label: str,
    place: tuple[float, float],
    colour: str,
    font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont,
) -> None:
    """White on a plate of the region's colour, above `place` where there is room."""
    height = draw.textbbox((0, 0), label, font=font)[3]
    at = place[0], max(0.0, place[1] - height - 2)
    draw.rectangle(draw.textbbox(at, label, font=font), fill=colour, outline=colour, width=2)
    draw.text(at, label, fill="white", font=font)
