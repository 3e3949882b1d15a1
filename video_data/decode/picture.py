"""Turns a decoded PyAV frame into the picture that a viewer sees: upright, square pixels, RGB of an ordinary screen.

The display matrix is followed to the nearest quarter turn, mirrored ones too; non-square pixels are stretched; HDR (PQ
and HLG, ITU-R BT.2100) is brought down to BT.709; transparent pixels are blended on white. What was done stands in
notes. Legend: H rows, W columns, C colours red, green, blue.
"""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Transfer = Literal["sdr", "pq", "hlg"]
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""Numbers of transfer curves in ITU-T H.273."""
_BT2020 = 9
"""Number of the primaries of BT.2020 in ITU-T H.273."""
_WHITE_CD_M2 = 203.0
"""Brightness of a white sheet in HDR (ITU-R BT.2408); what is brighter becomes white."""
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""Linear RGB of BT.2020 to linear RGB of BT.709 (ITU-R BT.2087)."""
_STRAIGHT_DEGREES = 1.0


@dataclass(frozen=True)
class Look:
    """How the pictures of a clip have to be treated to be shown; read off its first picture."""

    coded_width: int
    coded_height: int
    rotation_degrees: int
    """Clockwise turn that shows the picture upright, after mirroring."""
    is_mirrored: bool
    """Whether left and right are exchanged before the turn."""
    off_degrees: float
    """How far the display matrix is from that quarter turn."""
    pixel_aspect: Fraction
    transfer: Transfer
    is_wide_gamut: bool
    is_transparent: bool
    """Whether the first picture has transparent pixels."""

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as displayed; non-square pixels are stretched, never squeezed."""
        width, height = self.coded_width, self.coded_height
        if self.pixel_aspect > 1:
            width = round(width * self.pixel_aspect)
        elif self.pixel_aspect < 1:
            height = round(height / self.pixel_aspect)
        return (width, height) if self.rotation_degrees % 180 == 0 else (height, width)

    def notes(self) -> list[str]:
        """What is done to the pictures beyond decoding and quarter turns, and what is not."""
        notes = []
        if self.off_degrees > _STRAIGHT_DEGREES:
            notes.append(f"the clip asks to be turned by {self.off_degrees:.0f} degrees more, which is not done")
        if self.pixel_aspect != 1:
            width, height = self.shown_size
            shape = f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"
            notes.append(f"pixels of {shape} are shown square, {width}x{height}")
        if self.transfer != "sdr":
            notes.append(f"HDR ({self.transfer.upper()}) is converted to BT.709")
        if self.is_transparent:
            notes.append("transparent pixels are blended on white")
        return notes


def look_key(frame: Any, *, pixel_aspect: Fraction) -> tuple[Any, ...]:  # noqa: ANN401 - PyAV has no public types
    """What the look of a frame depends on, cheap to compare; the look changes only where this does."""
    matrix = bytes(frame.side_data.get("DISPLAYMATRIX") or b"")
    return frame.width, frame.height, pixel_aspect, frame.color_trc, frame.color_primaries, frame.format.name, matrix


def look_of(frame: Any, *, pixel_aspect: Fraction) -> Look:  # noqa: ANN401
    """The look of a clip from its first frame and what the container says of its pixels."""
    matrix = bytes(frame.side_data.get("DISPLAYMATRIX") or b"")
    rotation, is_mirrored, off = orientation(matrix)
    # Other shapes are damage, and would ask for huge pictures.
    sane = pixel_aspect if Fraction(1, 8) <= pixel_aspect <= 8 else Fraction(1)
    return Look(
        coded_width=frame.width,
        coded_height=frame.height,
        rotation_degrees=rotation,
        is_mirrored=is_mirrored,
        off_degrees=off,
        pixel_aspect=sane,
        transfer=_TRANSFERS.get(int(frame.color_trc or 0), "sdr"),
        is_wide_gamut=int(frame.color_primaries or 0) == _BT2020,
        is_transparent=has_alpha(frame) and int(frame.to_ndarray(format="rgba")[..., 3].min()) < 255,
    )


def has_alpha(frame: Any) -> bool:  # noqa: ANN401
    """Whether the format of a frame has room for transparency."""
    return any(part.is_alpha for part in frame.format.components)


def orientation(matrix: bytes) -> tuple[int, bool, float]:
    """Clockwise quarter turn in degrees, whether left and right are exchanged first, and the degrees left over.

    Args:
        matrix: nine 32-bit integers of an ISO 14496-12 display matrix (a b u c d v x y w), which takes a point (p, q),
            q counted downwards, to (a p + c q, b p + d q); empty for none.
    """
    if len(matrix) != 36:
        return 0, False, 0.0
    a, b, _, c, d, *_ = struct.unpack("<9i", matrix)
    is_mirrored = a * d - b * c < 0
    if is_mirrored:
        a, b = -a, -b
    degrees = math.degrees(math.atan2(b, a)) if a or b else 0.0
    quarter = round(degrees / 90) * 90
    return quarter % 360, is_mirrored, abs(degrees - quarter)


def fitted_size(width: int, height: int, *, max_side_px: int | None) -> tuple[int, int]:
    """Width and height after scaling down to a longest side of `max_side_px`; never scaled up.

    >>> fitted_size(640, 480, max_side_px=320)
    (320, 240)
    """
    longest = max(width, height)
    if max_side_px is None or longest <= max_side_px:
        return width, height
    return max(1, round(width * max_side_px / longest)), max(1, round(height * max_side_px / longest))


def paint(
    frame: Any,  # noqa: ANN401
    look: Look,
    *,
    size: tuple[int, int],
    shown_size: tuple[int, int],
    converter: VideoReformatter,
) -> NDArray[np.uint8]:
    """The picture of `frame` as uint8 H, W, C in this size, which the usual shown size of its clip was fitted to.

    A look of another shape comes between black bars. The converter is costly to make.
    """
    layout = "rgba" if has_alpha(frame) else "rgb24" if look.transfer == "sdr" else "rgb48le"
    rgb: NDArray[Any] = converter.reformat(frame, format=layout).to_ndarray()
    if layout == "rgba":
        rgb = _on_white(rgb)
    elif layout == "rgb48le":
        rgb = to_sdr(rgb, transfer=look.transfer, is_wide_gamut=look.is_wide_gamut)
    if look.is_mirrored:
        rgb = rgb[:, ::-1]
    (width, height), (inner_width, inner_height) = size, size
    if look.shown_size != shown_size:
        factor = min(width / look.shown_size[0], height / look.shown_size[1])
        inner_width, inner_height = (
            min(most, max(1, round(side * factor))) for side, most in zip(look.shown_size, size, strict=True)
        )
    picture = scale(np.rot90(rgb, k=-look.rotation_degrees // 90), width=inner_width, height=inner_height)
    if (inner_width, inner_height) == size:
        return picture
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    with_bars = np.zeros((height, width, 3), np.uint8)  # not stretched: shapes would lie
    with_bars[top : top + inner_height, left : left + inner_width] = picture
    return with_bars


def to_sdr(rgb48_HWC: NDArray[np.uint16], *, transfer: Transfer, is_wide_gamut: bool) -> NDArray[np.uint8]:
    """HDR code values (uint16) as an ordinary picture of BT.709 (uint8): white at 203 cd/m2, brighter parts clipped."""
    linear = _linear_table(transfer)[rgb48_HWC]
    if transfer == "hlg":  # the system gamma of BT.2100 for a screen of 1,000 cd/m2
        luminance = linear @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        linear *= (np.maximum(luminance, 1e-6) ** 0.2)[..., None]
        linear *= 1000 / _WHITE_CD_M2
    if is_wide_gamut:
        linear = linear @ _TO_BT709.T
    return (np.clip(linear, 0, 1) ** (1 / 2.4) * 255 + 0.5).astype(np.uint8)  # the screen of ITU-R BT.1886


@cache
def _linear_table(transfer: Transfer) -> NDArray[np.float32]:
    """Light for each 16-bit code value: for PQ in units of white, for HLG of the scene (ITU-R BT.2100, tables 4, 5)."""
    code = np.arange(65536) / 65535
    if transfer == "pq":
        root = code ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return (light * (10_000 / _WHITE_CD_M2)).astype(np.float32)
    bright = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(code <= 0.5, code**2 / 3, bright).astype(np.float32)


def _on_white(rgba_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba_HWC[..., 3:]  # uint16 below: 255 * 255 fits no byte
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba_HWC[..., :3])
    blended = rgba_HWC[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((blended + 127) // 255).astype(np.uint8)


def scale(frame_HWC: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.uint8]:
    """The frame in the given size: by area averaging where it shrinks, linear where non-square pixels are stretched."""
    if frame_HWC.shape[:2] == (height, width):
        return frame_HWC
    import cv2  # only what is scaled needs it

    grows = width > frame_HWC.shape[1] or height > frame_HWC.shape[0]
    # Averaging areas keeps thin things that point sampling would drop.
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(np.ascontiguousarray(frame_HWC), (width, height), interpolation=method), np.uint8)
