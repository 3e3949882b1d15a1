"""The agent teacher, the shared trunk (filter, train, evaluate, report) and the student."""

__version__ = "0.1.0"

STAGES = ("prepare", "generate", "filter", "train", "evaluate", "report")
"""The stages of a run, in order."""


def __getattr__(name: str) -> object:
    """The door of the Python API, imported once somebody asks for it: `aot` alone stays quick."""
    if name in ("load_student", "Answer", "Ask"):
        from aot.serving import student

        return getattr(student, name)
    raise AttributeError(f"module 'aot' has no attribute {name!r}")
