"""The one palette: Okabe and Ito's colors, which people with any color vision can distinguish."""

from __future__ import annotations

# Okabe, Ito: "Color Universal Design", 2008. Its black is replaced by a light gray for labels, so
# that it is visible on dark pictures.
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"
LIGHT_GRAY = "#C8C8C8"
PLOT_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK, YELLOW)
LABEL_COLORS = (ORANGE, SKY_BLUE, GREEN, YELLOW, BLUE, VERMILION, PURPLE, LIGHT_GRAY)

Bgr = tuple[int, int, int]


def bgr(color: str) -> Bgr:
    """Return a color `#RRGGBB` as OpenCV's blue, green and red levels, 0 to 255."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return blue, green, red


LABEL_COLORS_BGR = tuple(bgr(color) for color in LABEL_COLORS)
