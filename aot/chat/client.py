"""The one protocol that teachers, tools and judges know of a chat model, and how many requests are made at once."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Protocol, TypeVar

from aot.chat.messages import ChatReply, ChatRequest

Item = TypeVar("Item")
Result = TypeVar("Result")
GRACE_S = 5.0
"""After a signal, calls in flight may end by themselves for so long: they are paid for."""


class ChatModel(Protocol):
    """Anything that answers chat requests; every method may be called from many threads at once."""

    @property
    def name(self) -> str:
        """The model's name, stored with traces."""
        ...

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request; waits for it, retries included.

        Raises:
            ChatError: this request got no usable reply; its `reason` is countable, and other requests may go on.
            ConfigError: nobody will get a reply, such as for want of a valid key.
            GuardStop: the cost limit is reached.
        """
        ...

    def close(self) -> None:
        """Close connections and files."""
        ...


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
