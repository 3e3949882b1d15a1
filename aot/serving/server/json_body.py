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
            return await handle(_JsonRequest(request.scope, request.receive))

        return handled


class _JsonRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        if not hasattr(self, "_value"):
            try:
                self._value = parse_json(await self.body(), keys="unique")
            except json.JSONDecodeError:  # FastAPI says what to send
                raise
            except ValueError as error:
                raise HTTPException(400, f"the body is no usable JSON: {error}") from None
        return self._value
