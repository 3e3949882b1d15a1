"""A model server that is started beside a command: its port, its readiness, its model, and its end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aot.chat.factory import check_chat
from aot.chat.server import beside
from aot.chat.server.beside import Wanted, free_port, run_beside, wanted_server
from aot.chat.server.keys import address_of
from aot.config import ChatConfig
from aot.errors import ConfigError, GuardStop

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:{port}/v1"
SERVER = """
import http.server, json, os, signal, sys, threading
port, names, how, folder = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], sys.argv[4]
open(folder + "/pid", "w").write(str(os.getpid()))
if how == "fails":
    sys.exit(7)
if how == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "silent":
    signal.pause()
if how == "busy":  # as long as weights are loaded
    import time; time.sleep(0.3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = json.dumps({"data": [{"id": name} for name in names]}).encode()
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.end_headers()
        self.wfile.write(text)
    def do_POST(self):
        os._exit(9)
    log_message = lambda *_: None
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
ASK = """
import json, os, sys, urllib.request
address = f"http://127.0.0.1:{os.environ['AOT_SERVER_PORT']}/v1/models"
names = json.load(urllib.request.urlopen(address))["data"]
open(sys.argv[1], "w").write(names[0]["id"])
sys.exit(int(sys.argv[2]))
"""
LASTING = """
import os, signal, sys, urllib.request
signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
if sys.argv[1] == "end the server":
    try:
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{os.environ['AOT_SERVER_PORT']}/", b"x"))
    except OSError:
        pass
print("begun", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "POLL_S", 0.05)


def serve(folder: Path, *words: str, how: str = "serves", names: str = "{model}", start_s: float = 60) -> int:
    (folder / "server.py").write_text(SERVER)
    server = f"{sys.executable} {folder / 'server.py'} {{port}} {names} {how} {folder}"
    return run_beside([sys.executable, *words], Wanted(ADDRESS, ("m",)), server=server, start_s=start_s, stop_s=1)


def server_lives(folder: Path) -> bool:
    return Path(f"/proc/{(folder / 'pid').read_text()}").exists()


@pytest.mark.parametrize("how", ["serves", "busy", "deaf"])
def test_a_command_begins_once_the_server_serves_and_the_server_ends_after_it(tmp_path: Path, how: str) -> None:
    assert serve(tmp_path, "-c", ASK, str(tmp_path / "seen"), "3", how=how) == 3
    assert (tmp_path / "seen").read_text() == "m" and not server_lives(tmp_path)


def test_a_server_that_ends_before_it_serves_is_told_with_its_code(tmp_path: Path) -> None:
    with pytest.raises(GuardStop, match="ended with code 7 before it served"):
        serve(tmp_path, "-c", ASK, str(tmp_path / "seen"), "0", how="fails")
    assert not (tmp_path / "seen").exists()


def test_a_server_of_another_model_is_refused_and_ended(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="serves a, b, and the config asks for m"):
        serve(tmp_path, "-c", ASK, str(tmp_path / "seen"), "0", names="a,b")
    assert not server_lives(tmp_path) and not (tmp_path / "seen").exists()


def test_a_server_that_does_not_answer_in_time_is_ended(tmp_path: Path) -> None:
    with pytest.raises(GuardStop, match=r"did not answer at http://127\.0\.0\.1:[0-9]+/v1/models within 0 s"):
        serve(tmp_path, "-c", ASK, str(tmp_path / "seen"), "0", how="silent", start_s=0)


def test_a_command_is_stopped_when_its_server_ends_before_it(tmp_path: Path) -> None:
    with pytest.raises(GuardStop, match="ended with code 9 while it was needed"):
        serve(tmp_path, "-c", LASTING, "end the server")


def test_a_signal_goes_to_the_command_and_the_server_ends_after_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def send() -> None:
        while "begun" not in capfd.readouterr().out:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    assert serve(tmp_path, "-c", LASTING, "go on") == 4
    thread.join()
    assert not server_lives(tmp_path)


def test_ports_of_two_jobs_differ_and_a_taken_one_is_passed_over() -> None:
    import socket

    first = free_port(4242)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert free_port(4242) != first
    assert free_port(4243) != first and 10_000 <= first < 30_000


CONFIG = """
data: {dataset: toy_math}
teacher: {planner: chat}
student: {base: tiny-text}
train: {arms: [{name: a, order: pre}]}
"""


def test_the_config_says_whether_a_server_is_wanted_and_of_which_models(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG + f"chat: {{model: m, base_url: '{ADDRESS}'}}\n")
    assert wanted_server(path, ()) == Wanted(ADDRESS, ("m",))
    judged = ("filter.judge=true", f"judge_chat={{model: j, base_url: '{ADDRESS}'}}")
    assert wanted_server(path, judged) == Wanted(ADDRESS, ("m", "j"))
    assert wanted_server(path, ("chat.base_url=http://127.0.0.1:8000/v1",)) is None
    other = ("filter.judge=true", "judge_chat={model: j, base_url: 'http://localhost:{port}/v1'}")
    with pytest.raises(ConfigError, match="one job starts one server"):
        wanted_server(path, other)


def test_the_address_gets_the_port_of_this_job_and_what_is_stored_keeps_none() -> None:
    section = ChatConfig(model="m", base_url=ADDRESS)
    assert address_of(section, {"AOT_SERVER_PORT": "12345"}) == "http://127.0.0.1:12345/v1"
    assert section.digest() == ChatConfig(model="m", base_url=ADDRESS).digest()
    with pytest.raises(ConfigError, match="AOT_SERVER_PORT holds no port"):
        address_of(section, {})
    check_chat(section)  # before any server is there, as prepare does


def test_the_command_line_runs_a_command_alone_where_no_server_is_wanted_and_refuses_one_that_is_not_set(
    tmp_path: Path,
) -> None:
    def main(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "aot.chat.server.beside", str(tmp_path / "run.yaml"), "--", *arguments]
        environment = {k: v for k, v in os.environ.items() if k != "AOT_SERVER"} | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)

    (tmp_path / "run.yaml").write_text(CONFIG + f"chat: {{model: m, base_url: '{ADDRESS}'}}\n")
    assert main("sh", "-c", "exit 5", "chat.base_url=http://127.0.0.1:8000/v1").returncode == 5
    refused = main("sh", "-c", "exit 5")
    assert refused.returncode == 2 and "set AOT_SERVER to its command" in refused.stderr
