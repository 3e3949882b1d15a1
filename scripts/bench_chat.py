"""How much of a chat server's capacity the client uses, and what a call costs it, beside a hand-tuned plain client.

The server (tests/chat/fault_server.py) runs in its own process with a fixed latency and a number of slots; calls beyond
them queue, or are turned away with 429. Capacity is slots / latency. The baseline in the same run is the plain
AsyncOpenAI client at a concurrency fixed by hand to the number of slots, which this client has to find out.

    python scripts/bench_chat.py --calls 400 --slots 12 16 40
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from openai import AsyncOpenAI, InternalServerError, RateLimitError

from aot.chat.client import map_threads
from aot.chat.messages import ChatRequest, message
from aot.chat.server.keys import Secret
from aot.chat.server.openai import OpenAIChat
from aot.chat.spend import Ledger
from aot.config import ChatConfig

SERVER = Path(__file__).resolve().parents[1] / "tests" / "chat" / "fault_server.py"


@dataclass(frozen=True)
class Measured:
    """One run of one client."""

    ends_s: list[float]
    """When each call ended, from the start of the run."""
    cpu_s: float
    found: int


@contextmanager
def server(*, latency_s: float, slots: int, over: str, retry_after: str | None) -> Iterator[str]:
    """Address of a server in its own process."""
    command = [sys.executable, str(SERVER), "--latency", str(latency_s), "--slots", str(slots), "--over", over]
    more = ["--retry-after", retry_after] if retry_after else []
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def run_ours(url: str, *, calls: int) -> Measured:
    """Our client, told nothing but an upper bound."""
    section = ChatConfig(model="m", base_url=url)
    chat = OpenAIChat(section, key=Secret("none-needed"), ledger=Ledger(section, None, writer="0"))
    start_s, cpu_s = time.perf_counter(), time.process_time()

    def ask(number: int) -> float:
        chat.reply(ChatRequest(messages=(message("user", f"question {number}"),)))
        return time.perf_counter() - start_s

    ends_s = sorted(map_threads(ask, range(calls), threads=section.max_concurrency))
    cpu_s = time.process_time() - cpu_s
    found = chat.concurrency
    chat.close()
    return Measured(ends_s, cpu_s, found)


def run_plain(url: str, *, calls: int, concurrency: int) -> Measured:
    """The SDK's own client with as many workers as the server has slots."""

    async def run() -> Measured:
        client = AsyncOpenAI(api_key="none-needed", base_url=url)
        numbers, ends_s = iter(range(calls)), list[float]()
        start_s, cpu_s = time.perf_counter(), time.process_time()

        async def work() -> None:
            for number in numbers:
                asked = [{"role": "user", "content": f"question {number}"}]
                try:
                    await client.chat.completions.create(model="m", messages=asked, max_tokens=1024)  # type: ignore[arg-type]
                except (RateLimitError, InternalServerError) as error:
                    print(f"  the plain client lost a call: {type(error).__name__}")
                ends_s.append(time.perf_counter() - start_s)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        cpu_s = time.process_time() - cpu_s
        await client.close()
        return Measured(ends_s, cpu_s, concurrency)

    return asyncio.run(run())


def report(name: str, measured: Measured, *, capacity: float, warm: int) -> None:
    """One line: throughput over the whole run, and after the first `warm` calls."""
    ends_s = measured.ends_s
    whole = len(ends_s) / ends_s[-1]
    # The last calls leave slots empty for want of work. A fitted line does not depend on where in a burst it begins.
    steady = ends_s[warm : len(ends_s) - measured.found]
    rest = float(np.polyfit(steady, np.arange(len(steady)), 1)[0])
    print(
        f"  {name:<28} {whole:6.1f}/s = {whole / capacity:6.1%} with warm-up, {rest:6.1f}/s = {rest / capacity:6.1%} "
        f"without; concurrency {measured.found}; {1000 * measured.cpu_s / len(ends_s):.2f} ms CPU a call"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--latency", type=float, default=0.25)
    parser.add_argument("--slots", type=int, nargs="+", default=[12, 16, 40])
    parser.add_argument("--retry-after", default=None, help="what a server that turns calls away asks for")
    given = parser.parse_args()
    for over in ("queue", "reject"):
        for slots in given.slots:
            capacity = slots / given.latency
            print(f"{slots} slots, {given.latency} s, beyond them {over}: {capacity:.1f} a second, {given.calls} calls")
            facts = {"latency_s": given.latency, "slots": slots, "over": over, "retry_after": given.retry_after}
            with server(**facts) as url:
                report("ours, finding it", run_ours(url, calls=given.calls), capacity=capacity, warm=given.calls // 4)
            with server(**facts) as url:
                plain = run_plain(url, calls=given.calls, concurrency=slots)
                report(f"plain AsyncOpenAI at {slots}", plain, capacity=capacity, warm=given.calls // 4)


if __name__ == "__main__":
    main()
