"""`aot serve`: what a command line asks for, made into a server that runs until a signal."""

import gc
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from aot.config import load_cascade_config
from aot.errors import ConfigError
from aot.served_records import StudentContract
from aot.serving.back_ends import open_back_ends
from aot.serving.contract import read_contract
from aot.serving.disclosure import read_watermark_secret
from aot.serving.review.queue import ReviewQueue
from aot.serving.server.limits import Limits
from aot.serving.server.listening import is_address_of, open_port, read_key, serve
from aot.serving.server.metrics import Metrics
from aot.serving.server.served import Recorder, Served, serve_export


def serve_command(
    export: Path | None,
    *,
    host: str,
    port: int,
    allow: Sequence[Path],
    key_env: str | None,
    back_ends: Sequence[str],
    model: str | None,
    back_end_key_env: str,
    record: Path | None,
    record_text: bool,
    redact: Path | None = None,
    limits: Limits,
    cascade: Path | None = None,
    disclose: bool = False,
    book: Path | None = None,
    review: Path | None = None,
    review_kinds: Sequence[str] = (),
    watermark_key_env: str | None = None,
    say: Callable[[Iterable[str]], None],
) -> None:
    """Serve until a signal; the port is opened first, since loading a model for a taken one would be in vain.

    Raises:
        ConfigError: there is nothing to serve, the port is taken, a folder is none, or a key is missing.
        CheckpointError: the export cannot be loaded.
        RunError: the file of notes cannot be written.
    """
    if export is None and not back_ends:
        raise ConfigError("nothing to serve; give an exported folder (aot export RUN OUT), or --student URL")
    if cascade is not None and back_ends:
        raise ConfigError("--cascade stands over an exported student in this process; leave --student out")
    if book is not None and back_ends:
        raise ConfigError("--book is for an exported student in this process; leave --student out")
    if watermark_key_env is not None and back_ends:
        raise ConfigError("--watermark-key-env marks what a student in this process writes; leave --student out")
    secret = read_watermark_secret(watermark_key_env)
    folders, key = tuple(_folder(one) for one in allow), read_key(key_env)
    contract = read_contract(export, check_files=False) if export else None
    section = load_cascade_config(cascade) if cascade else None
    queue = open_queue(review, contract, review_kinds)
    hide = read_redactions(redact) if redact else str
    urls = [section.big.base_url] if section and section.big.backend == "openai" else back_ends
    with open_port(host, port, key=key) as listener:
        if circular := [url for url in urls if is_address_of(listener, url)]:
            raise ConfigError(
                f"{circular[0]} is this server itself; it would wait for its own replies: give another --port"
            )
        recorder = Recorder(record, with_text=record_text, redact=hide) if record else None
        if back_ends:
            chat = open_back_ends(back_ends, model=model, key_env=back_end_key_env, limits=limits)
            served = Served(
                chat, contract, limits=limits, metrics=Metrics(), allow=folders, model_name=chat.name,
                recorder=recorder, disclose=disclose,
            )  # fmt: skip
        else:
            assert export is not None
            served = serve_export(
                export, limits=limits, allow=folders, recorder=recorder, cascade=cascade, disclose=disclose, book=book,
                watermark=secret,
            )  # fmt: skip
        served.review = queue
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        say([f"serving {served.name} at http://{shown}:{address[1]}/v1; Ctrl-C ends it"])
        gc.collect()
        gc.freeze()  # or each full collection walks through all that torch has loaded, while requests wait
        try:
            serve(served, listener, key=key)
        finally:
            served.close()


def open_queue(folder: Path | None, contract: StudentContract | None, kinds: Sequence[str]) -> ReviewQueue | None:
    """Where answers wait for a person; None where neither the contract nor the command line names such kinds.

    Raises:
        ConfigError: there are such kinds and no folder, a folder and no kinds, or a kind that is none.
    """
    wanted = tuple(dict.fromkeys((*(contract.review if contract else ()), *kinds)))
    if not wanted and folder is None:
        return None
    if folder is None:
        raise ConfigError(
            f"answers to questions of kind {', '.join(wanted)} need review by a person; name the folder in which they "
            "wait with --review FOLDER, such as the run's, and let a person look with `aot review FOLDER`"
        )
    if not wanted:
        raise ConfigError("--review names where answers wait, and no kind needs it; name one with --review-kind KIND")
    return ReviewQueue(folder, kinds=wanted, learned=contract.kinds if contract else ())


def read_redactions(path: Path) -> Callable[[str], str]:
    """What takes out of a text all that the patterns of a file match, each line of which is a name and a pattern.

    Raises:
        ConfigError: the file cannot be read, or a line is no name with a pattern.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--redact {path} cannot be read ({error}); give a text file") from None
    patterns = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, pattern = line.strip().partition(" ")
        try:
            if not pattern.strip() or "\\" in name:
                raise re.error("no pattern" if not pattern.strip() else "a backslash in the name")
            patterns.append((f"[{name}]", re.compile(pattern.strip())))
        except re.error as error:
            raise ConfigError(
                f"--redact {path}:{number}: {error}; a line is a name and a regular expression, such as "
                r"`email \S+@\S+`"
            ) from None

    def hide(text: str) -> str:
        for shown, pattern in patterns:
            text = pattern.sub(shown, text)  # in brackets, without a backslash: nothing of it is a group
        return text

    return hide


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigError(f"--allow {path} is no folder; give one that holds clips")
    return path.resolve()
