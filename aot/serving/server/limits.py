"""What one server takes: sizes, numbers and times, each with a default that one machine bears."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; a request beyond one of them is refused before it costs anything."""

    max_body_mb: float = 32.0
    """Of one request; a larger one is refused (413) without being read."""
    max_images: int = 64
    """In one request, frames of a clip included."""
    max_pixels: int = 4_000_000
    """Of one image, as its header says; looked at before it is unpacked."""
    max_clip_s: float = 600.0
    """Longest window of a clip that one request may show."""
    max_choices: int = 1000
    """Of one question to decide."""
    max_new_tokens: int = 2048
    """That one reply may be asked to have."""
    max_prompt_tokens: int = 32_768
    max_queue: int = 256
    """Requests that wait for the model; one more gets 429."""
    max_batch: int = 64
    """Requests that are answered together."""
    max_open: int = 512
    """Requests in this server, read or answered; one more gets 429 before its body is read."""
    header_s: float = 10.0
    """Within which a client must have sent the head of a request."""
    body_s: float = 30.0
    """Within which it must have sent the body."""
    idle_s: float = 30.0
    """After which a connection without a request is closed."""
    send_s: float = 60.0
    """For which a client may leave a piece of its reply unread."""
    reply_s: float = 600.0
    """For one reply, from the moment that the model begins it."""
    drain_s: float = 30.0
    """For which what was taken is finished after a signal."""

    @property
    def max_body_bytes(self) -> int:
        """Of one request."""
        return int(self.max_body_mb * 1_000_000)
