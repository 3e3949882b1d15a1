"""Sends the server what its OpenAPI description allows and what it forbids, and holds each answer against it.

    python scripts/check_openapi.py                        # the embedded video student; about half a minute
    python scripts/check_openapi.py EXPORT --examples 200  # an export of yours, more requests to each route

schemathesis makes the requests, the same ones each time. Whatever comes, no answer may be a failure of the server, and
each has a status, a content type and a body that the description tells. Ends with 1 if one has not.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded_export import export_embedded

from aot.serving.server.limits import Limits
from aot.serving.server.listening import open_port, server_of
from aot.serving.server.served import serve_export

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
)  # fmt: skip
LIMITS = Limits(max_body_mb=1.0, max_new_tokens=16)
"""So that no request takes long."""
SEED = 0


def check(export: Path, *, examples: int, time_limit_s: float = 300.0) -> int:
    """0 if every answer was as described, else the exit code of schemathesis, which has told what was not."""
    program = Path(sys.executable).with_name("st")
    with _running(export) as url, tempfile.TemporaryDirectory() as work:
        command = [
            str(program), "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS), "--seed", str(SEED),
            "--max-examples", str(examples), "--phases", "examples,coverage,fuzzing", "--no-shrink",
            "--suppress-health-check", "all", "--no-color", "--warnings", "off",
        ]  # fmt: skip
        return subprocess.run(command, cwd=work, check=False, timeout=time_limit_s).returncode


@contextmanager
def _running(export: Path) -> Iterator[str]:
    served = serve_export(export, limits=LIMITS)
    listener = open_port("127.0.0.1", 0, key=None)
    server = server_of(served)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        served.close()


def main() -> int:
    """Check what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", nargs="?", type=Path, help="an exported student; the embedded one by default")
    parser.add_argument("--examples", type=int, default=30, help="requests to each route in the last phase, at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        return check(options.export or export_embedded("tiny-video", Path(work) / "export"), examples=options.examples)


if __name__ == "__main__":
    sys.exit(main())
