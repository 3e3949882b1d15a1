"""The server speaks as OpenAI's clients expect it to."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.served import serve_export


@pytest.fixture(scope="module")
def client(text_export: Path) -> Iterator[TestClient]:
    served = serve_export(text_export, limits=Limits())
    with TestClient(build_app(served), raise_server_exceptions=False) as one:
        yield one
    served.chat.close()


def test_health_names_the_model_and_its_contract(client: TestClient) -> None:
    body = client.get("/health").json()
    assert (body["status"], body["model"]) == ("ready", "tiny-text") and len(body["contract_digest"]) == 16


def test_an_unknown_path_is_refused_in_the_shape_of_openai(client: TestClient) -> None:
    answer = client.get("/v1/nothing")
    assert answer.status_code == 404 and answer.json()["error"]["type"] == "invalid_request_error"
