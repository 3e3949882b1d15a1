"""Runs a command beside a model server that lives just as long.

    python -m aot.chat.server.beside CONFIG -- COMMAND...

Chat sections of CONFIG whose address holds `{port}` want such a server. It is started as the variable AOT_SERVER says,
on a free port; the command begins once the server names the models of these sections, is stopped if the server ends
before it, and the server is stopped after it. A config without such a section needs no server, and gets none.
"""

import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aot.chat.server.keys import PORT, PORT_VARIABLE
from aot.config import chat_jobs, load_config
from aot.display import PlainFormatter, one_line
from aot.errors import AotError, ConfigError, GuardStop

log = logging.getLogger(__name__)
COMMAND, START, STOP_TIME = "AOT_SERVER", "AOT_SERVER_START_S", "AOT_SERVER_STOP_S"
"""Variables: the words of the server's command, in which {port} and {model} stand for both; seconds until it must
answer, and to end in."""
POLL_S = 1.0
FIRST_PORT, PORTS = 10_000, 20_000
"""Below those that systems give away by themselves (32768 and more)."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Wanted:
    """A server that a config asks for."""

    address: str
    """With `{port}` in it."""
    models: tuple[str, ...]


def wanted_server(config_path: Path, overrides: tuple[str, ...]) -> Wanted | None:
    """The server that the chat sections of a config want beside them; None where none does.

    Raises:
        ConfigError: they want several.
    """
    sections = [section for _, section in chat_jobs(load_config(config_path, overrides=overrides)).values() if section]
    wanting = [section for section in sections if section.backend == "openai" and PORT in section.base_url]
    addresses = sorted({section.base_url for section in wanting})
    if len(addresses) > 1:
        raise ConfigError(
            f"chat sections want servers at {' and '.join(addresses)}, and one job starts one server; give them one "
            "address, or start the other server by itself"
        )
    models = tuple(dict.fromkeys(section.model for section in wanting))
    return Wanted(addresses[0], models) if wanting else None


def free_port(seed: int) -> int:
    """A port that nobody on this machine listens on, another for another job.

    Raises:
        GuardStop: all are taken.
    """
    for step in range(100):
        port = FIRST_PORT + (seed + step * 7) % PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise GuardStop("no port is free for a model server on this machine; the same command tries again")


def served_models(address: str) -> list[str] | None:
    """The names of the models that a server at `address` serves; None while it does not answer."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy between this machine and itself
    try:
        with direct.open(f"{address.rstrip('/')}/models", timeout=10) as reply:
            return [str(row["id"]) for row in json.loads(reply.read(1 << 20))["data"]]
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError):
        return None


def run_beside(words: list[str], wanted: Wanted, *, server: str, start_s: float, stop_s: float) -> int:
    """Do the command `words` while a server that was started with the words of `server` serves; its exit code.

    Raises:
        ConfigError: the server cannot be started, or serves other models.
        GuardStop: it did not answer in time, or ended before the command; a signal came before that began.
    """
    port = free_port(seed=int(os.environ.get("SLURM_JOB_ID", os.getpid())))
    address = wanted.address.replace(PORT, str(port))
    filled = [word.replace(PORT, str(port)).replace("{model}", wanted.models[0]) for word in shlex.split(server)]
    with _heard() as caught, _serving(filled, stop_s=stop_s) as process:
        log.info("model server: %s (pid %d)", shlex.join(filled), process.pid)
        _wait_for(process, address, wanted.models, start_s=start_s, caught=caught)
        log.info("model server: serves %s at %s", ", ".join(wanted.models), address)
        return _work(words, process, env={**os.environ, PORT_VARIABLE: str(port)}, caught=caught)


@contextmanager
def _serving(words: list[str], *, stop_s: float) -> Iterator["subprocess.Popen[bytes]"]:
    """A server, with all that it starts, for as long as the block lasts."""
    try:
        # In a session of its own, so that what it starts can be ended with it.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise ConfigError(f"{COMMAND} cannot be started: {words[0]}: {error.strerror or error}") from error
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=stop_s)
                if number == signal.SIGTERM and not _group_lives(process.pid):
                    break


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(
    process: "subprocess.Popen[bytes]", address: str, models: tuple[str, ...], *, start_s: float, caught: list[int]
) -> None:
    until_s = time.monotonic() + start_s
    while True:
        if (code := process.poll()) is not None:
            raise GuardStop(f"the model server ended with code {code} before it served; what it said stands above")
        if caught:
            raise GuardStop(f"stopped by {signal.Signals(caught[0]).name} while the model server was starting")
        names = served_models(address)
        if names is not None and set(models) <= set(names):
            return
        if names:
            raise ConfigError(
                f"the model server serves {', '.join(names)}, and the config asks for {', '.join(models)}; write "
                "--served-model-name {model} or the like into " + COMMAND + ", or correct chat.model"
            )
        if time.monotonic() > until_s:
            raise GuardStop(
                f"the model server did not answer at {address}/models within {start_s:.0f} s; {START} gives it longer"
            )
        time.sleep(POLL_S)


def _work(words: list[str], server: "subprocess.Popen[bytes]", *, env: dict[str, str], caught: list[int]) -> int:
    """Do the command, and stop it where the server ends first."""
    command = subprocess.Popen(words, env=env)
    handed_on = 0
    code: int | None = None
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = command.wait(timeout=POLL_S)
                break
            for number in caught[handed_on:]:
                command.send_signal(number)
            handed_on = len(caught)
            if not caught and server.poll() is not None:
                command.send_signal(signal.SIGTERM)
                command.wait()
                raise GuardStop(
                    f"the model server ended with code {server.poll()} while it was needed; what it said stands above, "
                    "and the same command goes on"
                )
    finally:
        if command.poll() is None:
            command.kill()
            command.wait()
    return code if code >= 0 else GuardStop.exit_code


@contextmanager
def _heard() -> Iterator[list[int]]:
    """The signals that came, in their order, for as long as the block lasts; they end the command, not this process."""
    caught: list[int] = []
    note: Callable[[int, object], None] = lambda number, _: caught.append(number)  # noqa: E731
    old = {number: signal.signal(number, note) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if "--" not in arguments[:2] or not arguments[2:]:
        sys.stderr.write("usage: python -m aot.chat.server.beside CONFIG -- COMMAND...\n")
        return 2
    config, words = Path(arguments[0]), arguments[2:]
    overrides = tuple(word for word in words if "=" in word and not word.startswith("-") and word != arguments[0])
    try:
        wanted = wanted_server(config, overrides)
        if wanted is None:
            return subprocess.run(words, check=False).returncode
        server = os.environ.get(COMMAND, "").strip()
        if not server:
            raise ConfigError(
                f"the config wants a model server beside it ({wanted.address}); set {COMMAND} to its command, such as "
                "'vllm serve {model} --port {port}', or start one and set " + PORT_VARIABLE
            )
        return run_beside(
            words, wanted, server=server, start_s=float(os.environ.get(START, "1800")),
            stop_s=float(os.environ.get(STOP_TIME, "30")),
        )  # fmt: skip
    except AotError as error:
        sys.stderr.write(f"aot: {one_line(str(error))}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
