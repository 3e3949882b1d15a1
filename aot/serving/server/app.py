"""The application: its routes, of which every client looks at the three here first."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from aot.errors import ConfigError
from aot.serving.decisions.api import decide_router
from aot.serving.review.holding import why_held
from aot.serving.server import completions, errors
from aot.serving.server.served import Served, served_of

__all__ = ["Served", "build_app", "served_of"]


def build_app(served: Served) -> FastAPI:
    """The application over what is served, without a port.

    Raises:
        ConfigError: answers need review by a person, and there is no queue in which they wait.
    """
    if served.contract is not None and served.contract.review and served.review is None:
        raise ConfigError(why_held(served.contract))
    app = FastAPI(title="aot serve", version="1", docs_url=None, redoc_url=None, responses=errors.RESPONSES)
    app.state.served = served
    for kind in (errors.ApiError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, errors.handle)
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_api_route("/metrics", _metrics, methods=["GET"], response_class=Response)
    app.add_api_route("/v1/models", _models, methods=["GET"])
    app.include_router(completions.router)
    app.include_router(decide_router(served))
    return app


async def _health(request: Request) -> dict[str, Any]:
    """Whether requests are taken, and which model with which contract answers them."""
    served = served_of(request)
    contract = served.contract
    return {
        "status": "draining" if served.draining else "ready",
        "model": served.name,
        "contract_version": contract.version if contract else None,
        "contract_digest": served.fingerprint,
        **({"cascade": served.cascade.counts.model_dump()} if served.cascade else {}),
    }


async def _models(request: Request) -> dict[str, Any]:
    """The one model that is served, in OpenAI's shape."""
    served = served_of(request)
    row = {"id": served.name, "object": "model", "created": int(served.started_s), "owned_by": "aot"}
    return {"object": "list", "data": [row]}


async def _metrics(request: Request) -> Response:
    """Figures in the text format of Prometheus."""
    return Response(served_of(request).metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")
