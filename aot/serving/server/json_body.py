"""Bodies of JSON, read as plain data is: a key that stands twice is refused, since nobody can say which one counts."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from aot.files.jsonl import parse_json


class JsonRoute(APIRoute):
    """A route whose bodies are read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, over another request."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handled


class JsonRequest(Request):
    """A request whose body is read so; read once, however often it is looked at."""

    async def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        """The value of the body.

        Raises:
            JSONDecodeError: it is no JSON.
            HTTPException: it is none that can be used.
        """
        if not hasattr(self, "_value"):
            try:
                self._value = parse_json(await self.body(), keys="unique")
            except json.JSONDecodeError:  # FastAPI says what to send
                raise
            except ValueError as error:
                raise HTTPException(400, f"the body is no usable JSON: {error}") from None
        return self._value
