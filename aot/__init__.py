"""The agent teacher, the shared trunk (filter, train, evaluate, report) and the student."""

__version__ = "0.1.0"

STAGES = ("prepare", "generate", "filter", "train", "evaluate", "report")
"""The stages of a run, in order."""
