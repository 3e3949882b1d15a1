"""Keys come from the environment only, and go nowhere but into the request header.

A key is wrapped so that printing it shows nothing, and whatever a server says is cleaned of it before anybody sees it.
"""

import ipaddress
import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import urlsplit

from aot.config import ChatConfig
from aot.display import storable
from aot.errors import ConfigError

_DUMMY = "none-needed"
_SURELY_NO_WORD = 6
_QUIET_LOGGERS = ("httpcore2", "httpcore", "httpx2", "httpx", "openai")

PORT, PORT_VARIABLE = "{port}", "AOT_SERVER_PORT"
"""In an address: the port of a server that was started beside this process, and the variable that holds it."""

logger = logging.getLogger(__name__)


class Secret:
    """A key that shows itself to `reveal` only."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the request header and for nothing else."""
        return self._value

    def clean(self, text: str) -> str:
        """A reply without the key in it, and without halves of characters that no file can hold.

        A short key may be a word or a number of the reply, as `none` is; then it goes only where it stands as a key.
        """
        if len(self._value) >= _SURELY_NO_WORD:
            text = text if self._value == _DUMMY else text.replace(self._value, "[key]")
        elif self._value.isalpha() or self._value.isdigit():
            text = re.sub(rf"(?i:\bbearer\s+){re.escape(self._value)}(?!\w)", "Bearer [key]", text)
        else:
            text = self._without_word(text)
        return storable(text)

    def excerpt(self, text: str, *, length: int = 300) -> str:
        """The beginning of what a server said, in one line without control characters and without the key."""
        cleaned = self._without_word(self.clean(text))[:4000]
        plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in cleaned)
        line = " ".join(plain.split())
        return line if len(line) <= length else line[:length] + "..."

    def _without_word(self, text: str) -> str:
        if self._value == _DUMMY:
            return text
        return re.sub(rf"(?<!\w){re.escape(self._value)}(?!\w)", "[key]", text)

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__


def is_local(base_url: str) -> bool:
    """Whether a server runs on this machine.

    >>> is_local("http://127.0.0.1:8000/v1"), is_local("https://api.example.com/v1")
    (True, False)
    """
    return is_loopback(urlsplit(base_url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine, which no other one reaches under it.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")  # RFC 6761, 6.3


def address_of(section: ChatConfig, environment: Mapping[str, str] = os.environ) -> str:
    """The address of the server of `section`, with the port of the one beside this process where it asks for that.

    Rows, cached replies and digests keep `{port}`: another job has another port, and asks the same model.

    Raises:
        ConfigError: no server was started beside this process.
    """
    if PORT not in section.base_url:
        return section.base_url
    port = environment.get(PORT_VARIABLE, "")
    if not port.isdigit():
        raise ConfigError(
            f"chat.base_url {section.base_url!r} is that of a server beside this command, and {PORT_VARIABLE} holds no "
            "port; scripts/distill_video.sh starts one in a job (docs/cluster.md), or set the variable yourself"
        )
    return section.base_url.replace(PORT, port)


def read_key(section: ChatConfig, environment: Mapping[str, str] = os.environ) -> Secret:
    """The key for the server of `section`; a server on this machine needs none.

    Raises:
        ConfigError: the address cannot be one, holds a password, or the key is missing.
    """
    try:
        parts = urlsplit(address_of(section, environment))
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(f"chat.base_url {section.base_url!r} is no address such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            f"chat.base_url for {parts.hostname} holds a user name, a password or a query; "
            f"leave them out and put the key into the environment variable {section.api_key_env}"
        )
    value = environment.get(section.api_key_env, "").strip()
    if not value and not is_local(section.base_url):
        raise ConfigError(
            f"the server at {section.base_url} needs a key and the environment variable {section.api_key_env} is not "
            "set; set it (to any word if that server wants no key), or name another one in chat.api_key_env"
        )
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"the key in {section.api_key_env} holds characters that no request header can carry")
    if value and parts.scheme == "http" and not is_local(section.base_url):
        logger.warning("the key in %s goes to %s without encryption", section.api_key_env, section.base_url)
    return Secret(value or _DUMMY)


def quiet_transport_logs() -> None:
    """Keep the loggers of the HTTP packages from telling headers, and from a line for every call."""
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
