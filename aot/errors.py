"""The errors a user can meet: one base class, one subclass per boundary that an input can fail to cross.

An `AotError` is told in one line without a traceback; any other exception is a bug. The `boundary` name is what a
failed row stores, so that failures can be counted.
"""


class AotError(Exception):
    """Something the user can mend; the message says what came, what would be fine, and what to do next."""

    boundary = "internal"
    exit_code = 2


class ConfigError(AotError):
    """A setting is unknown, of the wrong type, or contradicts another one."""

    boundary = "config"


class SourceError(AotError):
    """An input file or row is missing, empty or malformed."""

    boundary = "source"


class DecodeError(AotError):
    """A clip could not be decoded."""

    boundary = "decode"


class ChatError(AotError):
    """A chat model refused, failed or answered with nothing."""

    boundary = "chat"


class ToolError(AotError):
    """A tool was called with bad arguments, or found nothing to return."""

    boundary = "tool"


class ParseError(AotError):
    """A model's text does not have the form that was asked for."""

    boundary = "parse"


class CheckpointError(AotError):
    """Stored weights or training state are missing, incomplete or altered."""

    boundary = "checkpoint"


class RunError(AotError):
    """The run folder cannot be used: unwritable, full, or made with another config."""

    boundary = "run"


class GuardStop(AotError):
    """A guard stopped the work (signal, disk, non-finite loss); the same command resumes it."""

    boundary = "guard"
    exit_code = 4
