"""Seeded draws that depend on what they are for and on nothing that was drawn before.

Each formula is one that stored data was drawn by: changing it changes every clip, problem and split ever made.
"""

import hashlib
import random
import zlib
from collections.abc import Iterable

from numpy.random import Generator, default_rng


def hashed(seed: int, *names: object) -> int:
    """A random number of 64 bits for a seed and what it is for, such as a question id and a purpose."""
    digest = hashlib.blake2b(":".join(map(str, (seed, *names))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def rng(seed: int, *names: str, index: tuple[int, ...] = ()) -> Generator:
    """Numpy's generator for a seed, what the draws are for, and the numbers of the item and of the attempt."""
    return default_rng([seed, zlib.crc32(":".join(names).encode()), *index])


def text_rng(seed: int, *names: str) -> random.Random:
    """Python's generator for a seed and what the draws are for, such as a question id."""
    return random.Random("|".join((str(seed), *names)))


def share(*parts: object) -> float:
    """A number from 0 to below 1 for what the draw is for; a seed is one of the parts."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:6], "big") / 2**48


def in_random_order(names: Iterable[str], *, seed: int) -> list[str]:
    """`names` in an order in which each one's place depends on the seed and the names only."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest())
