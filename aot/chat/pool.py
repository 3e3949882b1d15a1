"""Many things done at once by threads, without a queue that grows."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


GRACE_S = 5.0
"""After a signal, calls in flight may end by themselves for so long: they are paid for."""


def map_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    give_up: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Results of `function` over `items` as they come, in no order.

    An item is taken only when a thread is free for it, so that memory does not grow with their number. The first error
    of `function` is raised after the calls in flight have ended; nothing new is started then, nor when the caller stops
    iterating. After a signal they get GRACE_S, then `give_up` has to end them.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="aot-chat")
    ended: SimpleQueue[Future[Result]] = SimpleQueue()
    flying: set[Future[Result]] = set()
    try:
        for item in items:
            future = pool.submit(function, item)
            flying.add(future)
            future.add_done_callback(ended.put)
            if len(flying) >= threads:
                flying.remove(future := ended.get())
                yield future.result()
        while flying:
            flying.remove(future := ended.get())
            yield future.result()
    except KeyboardInterrupt:
        if wait(flying, timeout=GRACE_S).not_done:
            give_up()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
