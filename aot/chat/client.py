"""The one protocol that teachers, tools and judges know of a chat model."""

from typing import Protocol

from aot.chat.messages import ChatReply, ChatRequest


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
