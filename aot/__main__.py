"""The command `aot`, and `python -m aot`: sees to signals first, because what it imports next takes a moment."""

import os
import signal


def main() -> None:
    """Run the command line; a signal during the imports ends in one line and exit code 4, as later ones do."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _end)
    from aot.cli import main as run

    run()


def _end(signum: int, frame: object) -> None:
    os.write(2, b"aot: stopped by a signal before anything was begun\n")
    os._exit(4)


if __name__ == "__main__":
    main()
