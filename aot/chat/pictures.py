"""Pictures of messages, packed and unpacked; here because text needs no image package."""

import io
from typing import Any

import numpy as np

from aot.errors import ChatError


def unpacked(data: bytes) -> Any:  # noqa: ANN401 - of PIL, which may not be installed
    """A picture in RGB.

    Raises:
        ChatError: bad_request; it cannot be read.
    """
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # a broken PNG is a SyntaxError
        raise ChatError(f"an image of {len(data)} bytes cannot be read: {error}", reason="bad_request") from error


def png(frame_HWC: np.ndarray) -> bytes:
    """A frame, uint8 (height, width, 3), without loss."""
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(frame_HWC).save(packed, "PNG", compress_level=1)
    return packed.getvalue()
