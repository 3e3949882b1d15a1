"""Measures `aot serve` against the engine that it serves: throughput under load, cost of one idle request, memory.

    python scripts/bench_serve.py                          # the embedded text student, exported first
    python scripts/bench_serve.py --export exports/kitchen --question "What is the next step?"
    python scripts/bench_serve.py --memory-minutes 60      # and RSS over an hour of requests

The server runs as a process of its own, the engine in this one; both answer the same questions, in turns, so that what
else the machine does falls on both. Throughput is answers a second: of the server under --clients that ask again as
soon as they have their answer, and of `Engine.replies` over batches of as many requests. The clients share the cores
with the server, so its processor time stands beside. The overhead is the median difference of pairs, in each of which
one request goes to the server and the same one to the engine right before or after it.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedded_export import export_embedded

from aot.chat.messages import ChatRequest, Sampling, message
from aot.serving.contract import read_contract
from aot.threads import set_thread_waiting


def main() -> None:
    """Print the figures, and end with exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path, help="an exported student; else the embedded text student")
    parser.add_argument("--question", default="", help="asked as it is; else sums of one step")
    parser.add_argument("--mode", default="reason", help="how the student is asked")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="turns of server and engine")
    parser.add_argument("--requests", type=int, default=20, help="of each client in a round")
    parser.add_argument("--idle", type=int, default=50, help="single requests in a round")
    parser.add_argument("--memory-minutes", type=float, default=0.0, help="of further requests, RSS watched")
    arguments = parser.parse_args()
    set_thread_waiting()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.export or export_embedded("tiny-text", Path(scratch) / "text")
        missed = asyncio.run(_measure(folder, arguments))
    sys.exit(1 if missed else 0)


async def _measure(folder: Path, arguments: argparse.Namespace) -> bool:
    contract = read_contract(folder, check_files=False)
    suffix = _suffix(arguments.mode)
    asked = (
        [arguments.question] if arguments.question else [f"What is {a} + {b}?" for a in range(2, 10) for b in range(8)]
    )
    texts = [asked[i % len(asked)] for i in range(arguments.clients)]
    most = contract.max_rationale_tokens
    engine = _engine(folder, most=contract.max_tokens)
    requests = [
        ChatRequest(
            messages=(message("user", f"{text} {suffix}".strip()),), sampling=Sampling(temperature=0, max_tokens=most)
        )
        for text in texts
    ]
    server, port = _start(folder, arguments.clients)
    try:
        bodies = [_http(contract.name, text, arguments.mode, port, most) for text in texts]
        engine.replies(requests)
        await _load(port, bodies, 2)
        rates: dict[str, list[float]] = {"engine": [], "server": []}
        singles: dict[str, list[float]] = {"engine": [], "server": []}
        sizes: list[float] = []
        cpu_s = {"engine": 0.0, "server": 0.0}
        for _ in range(arguments.rounds):
            began_s, spent_s = time.perf_counter(), time.process_time()
            for _ in range(arguments.requests):
                engine.replies(requests)
            rates["engine"].append(arguments.requests * len(requests) / (time.perf_counter() - began_s))
            cpu_s["engine"] += time.process_time() - spent_s
            before, spent_s = await _batches(port), _cpu_s(server.pid)
            rates["server"].append(await _load(port, bodies, arguments.requests))
            cpu_s["server"] += _cpu_s(server.pid) - spent_s
            sizes.append((arguments.requests * len(bodies)) / (await _batches(port) - before))
            await _pairs(engine, requests, port, bodies, singles, count=arguments.idle)
        missed = _tell(rates, singles, arguments)
        answers = arguments.rounds * arguments.requests * len(bodies)
        each = ", ".join(f"{name} {1000 * spent_s / answers:.2f} ms" for name, spent_s in cpu_s.items())
        print(f"CPU time of an answer under load: {each}; ratio {cpu_s['engine'] / cpu_s['server']:.3f}")
        print(f"requests in a batch of the server, by round: {', '.join(f'{size:.1f}' for size in sizes)}")
        if arguments.memory_minutes:
            await _memory(server.pid, port, bodies, arguments.memory_minutes)
    finally:
        server.send_signal(signal.SIGTERM)
        print(f"exit code of the server after SIGTERM: {server.wait(60)}")
    return missed


def _tell(rates: dict[str, list[float]], singles: dict[str, list[float]], arguments: argparse.Namespace) -> bool:
    ratios = [server / engine for server, engine in zip(rates["server"], rates["engine"], strict=True)]
    ratio = statistics.median(ratios)
    n = arguments.rounds * arguments.requests * arguments.clients
    print(f"threads of torch in each process: {os.environ.get('OMP_NUM_THREADS', 'default')}")
    print(f"{arguments.clients} clients, n = {n} requests on each side in {arguments.rounds} rounds")
    for name, values in rates.items():
        print(f"  {name:7}{statistics.median(values):9.1f} answers a second ({min(values):.1f} to {max(values):.1f})")
    print(f"  ratio  {ratio:9.3f} ({min(ratios):.3f} to {max(ratios):.3f}); goal at least 0.8")
    medians = {name: 1000 * statistics.median(values) for name, values in singles.items()}
    gaps_ms = [1000 * (server - engine) for server, engine in zip(singles["server"], singles["engine"], strict=True)]
    overhead_ms, (low_ms, _, high_ms) = statistics.median(gaps_ms), statistics.quantiles(gaps_ms, n=4)
    print(f"one client, n = {len(gaps_ms)} pairs")
    print(f"  engine {medians['engine']:9.2f} ms, server {medians['server']:.2f} ms (medians)")
    print(f"  overhead {overhead_ms:7.2f} ms, half of them {low_ms:.2f} to {high_ms:.2f}; goal under 5 ms")
    return ratio < 0.8 or overhead_ms >= 5


async def _memory(pid: int, port: int, bodies: Sequence[bytes], minutes: float) -> None:
    """RSS of the server after each tenth of so many minutes under all clients."""
    sizes_mb: list[float] = []
    count, began_s = 0, time.monotonic()
    for tenth in range(1, 11):
        while time.monotonic() < began_s + 60 * minutes * tenth / 10:
            await _load(port, bodies, 1)
            count += len(bodies)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        sizes_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    print(f"RSS over {minutes:g} min, n = {count} requests, MB: {', '.join(f'{size:.0f}' for size in sizes_mb)}")
    print(f"  growth over the second half: {100 * (sizes_mb[-1] / sizes_mb[4] - 1):.2f}%")


async def _load(port: int, bodies: Sequence[bytes], each: int) -> float:
    """Answers a second when every body is sent over and over by a client of its own."""

    async def client(body: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(each):
            await _exchange(reader, writer, body)
        writer.close()

    began_s = time.perf_counter()
    await asyncio.gather(*(client(body) for body in bodies))
    return each * len(bodies) / (time.perf_counter() - began_s)


async def _pairs(
    engine: Any,  # noqa: ANN401
    requests: Sequence[ChatRequest],
    port: int,
    bodies: Sequence[bytes],
    singles: dict[str, list[float]],
    *,
    count: int,
) -> None:
    """Seconds of single requests, each put to both; which of them is first changes from pair to pair."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(count):
        for name in ("engine", "server") if i % 2 else ("server", "engine"):
            began_s = time.perf_counter()
            if name == "engine":
                engine.replies([requests[i % len(requests)]])
            else:
                await _exchange(reader, writer, bodies[i % len(bodies)])
            singles[name].append(time.perf_counter() - began_s)
    writer.close()


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _batches(port: int) -> float:
    """How many batches the server has begun so far."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    page = await _exchange(reader, writer, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    writer.close()
    return float(page.decode().partition("\naot_batch_requests_count ")[2].partition("\n")[0])


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    writer.write(body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    answer = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the server refused: {answer[:300]!r}")
    return answer


def _http(model: str, text: str, mode: str, port: int, most: int) -> bytes:
    row: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": most}
    body = json.dumps({**row, "aot": {"mode": mode}}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _start(folder: Path, clients: int) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "aot", "serve", str(folder), "--port", "0", "--max-batch", str(clients)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line.startswith("serving"):
        raise SystemExit("the server did not start; run aot serve by hand to see why")
    return server, int(line.rpartition(":")[2].partition("/")[0])


def _engine(folder: Path, *, most: int) -> Any:  # noqa: ANN401 - Engine needs torch
    from aot.serving.student import load_student
    from aot.student.answer.engine import Engine
    from aot.student.answer.speaker import speaker_of

    student = load_student(folder)
    return Engine(speaker_of(student.student, name=student.contract.name), max_prompt_tokens=most)


def _suffix(mode: str) -> str:
    from aot.student.rows.prompts import MODE_SUFFIX

    return "" if mode == "none" else MODE_SUFFIX[mode]  # type: ignore[index]


if __name__ == "__main__":
    main()
