"""Many things done at once by threads, without a queue that grows."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Results of `function` over `items` as they come, in no order.

    An item is taken only when a thread is free for it, so that memory does not grow with their number. The first error
    of `function` is raised after the calls in flight have ended; nothing new is started then, nor when the caller stops
    iterating.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="aot-chat")
    ended: SimpleQueue[Future[Result]] = SimpleQueue()
    flying = 0
    try:
        for item in items:
            pool.submit(function, item).add_done_callback(ended.put)
            flying += 1
            if flying >= threads:
                flying -= 1
                yield ended.get().result()
        for _ in range(flying):
            yield ended.get().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
