"""Seeded draws that depend on what they are for and on nothing that was drawn before."""

import hashlib


def draw(seed: int, *names: object) -> int:
    """A random number of 64 bits for a seed and what the draw is for, such as a question id and a purpose."""
    digest = hashlib.blake2b(":".join(map(str, (seed, *names))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
