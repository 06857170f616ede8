"""Y'CbCr to RGB: the coefficients of BT.601 and BT.709, for video and for full range."""

from __future__ import annotations

from typing import NamedTuple

LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}  # of red and of blue


class Color(NamedTuple):
    """What a Y'CbCr pixel becomes, 8 bits, U and V centered on 128.

    `red = luma * (Y - black) + v_to_red * (V - 128)`, and so on; the order is the kernel's.
    """

    black: float
    luma: float
    v_to_red: float
    u_to_green: float
    v_to_green: float
    u_to_blue: float


def color_of(standard: str, full_range: bool) -> Color:
    """Return the coefficients of a standard.

    Args:
        standard: bt601 or bt709.
        full_range: Y, U and V span 0 to 255, as JPEG and most webcams have it; else Y spans 16 to
            235 and U and V 16 to 240, as video and CSI cameras have it.
    """
    red, blue = LUMA_WEIGHTS[standard]
    green = 1 - red - blue
    black, luma, chroma = (0.0, 1.0, 1.0) if full_range else (16.0, 255 / 219, 255 / 224)
    v_to_red, u_to_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    return Color(
        black, luma, v_to_red, -u_to_blue * blue / green, -v_to_red * red / green, u_to_blue
    )
