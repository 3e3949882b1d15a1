"""A small model that answers where it is sure enough and a big one for the rest, with a promise that is watched."""

from aot.serving.cascade.model import Cascade, load_cascade

__all__ = ["Cascade", "load_cascade"]
