"""The API does what its description says, for requests of every shape, against a real server."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from stratum.config import load
from stratum.memory import Memory
from stratum.web_api import ENDPOINTS, description
from tests.conftest import make_repository
from tests.web_process import WebProcess, web

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_headers_conformance, response_schema_conformance, negative_data_rejection,
    unsupported_method,
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    base = tmp_path_factory.mktemp("described")
    (base / "shop").mkdir()
    root = make_repository(base / "shop")
    chosen = load(
        {"STRATUM_HOME": str(base / "home"), "STRATUM_EMBED_MODEL": "none", "STRATUM_AUTHOR": "Ada"}
    )
    with Memory(chosen, root) as memory:
        memory.index(vectors=False)
        memory.write("Carts expire", anchors=["shop/cart.py::expire_old_carts"])
    with web(chosen, root) as running:
        yield running


@pytest.fixture
def rested(server: WebProcess) -> WebProcess:
    """The server when it answers again: what is made up above can be more than its rate."""
    until = time.monotonic() + 60
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    good = 0
    while good < 20:  # so many in a row: there is room for what a test asks
        connection.request("GET", "/api/map", headers={"Authorization": f"Bearer {server.token}"})
        answer = connection.getresponse()
        answer.read()
        good = good + 1 if answer.status == 200 else 0
        assert time.monotonic() < until
        time.sleep(0.1)
    connection.close()
    return server


def described() -> schemathesis.BaseSchema:
    """Return the description without what never ends, and what takes no cookie."""
    told = json.loads(json.dumps(description()))
    for path in ("/api/events", "/api/session"):
        del told["paths"][path]
    return schemathesis.openapi.from_dict(told)


schema = described()


@schema.parametrize()
@settings(
    max_examples=30, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_every_answer_is_one_that_is_described(case: schemathesis.Case, server: WebProcess) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.port}",
        headers={"Authorization": f"Bearer {server.token}"},
        checks=CHECKS,
    )


def test_nothing_that_is_described_is_answered_without_the_token(rested: WebProcess) -> None:
    # asked here and not with each request made up above: strangers are held to a rate
    for path, operations in description()["paths"].items():
        for method in operations:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                connection = http.client.HTTPConnection("127.0.0.1", rested.port, timeout=30)
                own = {"Origin": f"http://127.0.0.1:{rested.port}", **headers}
                connection.request(
                    method.upper(), path.replace("{id}", "k3l2mnop4qrs"), headers=own
                )
                assert connection.getresponse().status == 401, (method, path)
                connection.close()


def test_the_description_covers_every_endpoint(rested: WebProcess) -> None:
    told = rested.get("/api/openapi.json")
    assert told == description()
    for endpoint in ENDPOINTS:
        assert endpoint.method.lower() in told["paths"][endpoint.path]
    assert {"/api/status", "/api/session", "/api/events"} <= told["paths"].keys()
    assert "Traceback" not in rested.log()


def test_answers_to_good_questions_fit_their_schemas(rested: WebProcess) -> None:
    id_ = rested.get("/api/notes")["notes"][0]["id"]
    asked = {
        "/api/search": {"query": {"q": "cart", "explain": True}},
        "/api/notes": {"query": {"state": "all"}},
        "/api/notes/{id}": {"path_parameters": {"id": id_}},
        "/api/map": {"query": {"path": "shop"}},
        "/api/outline": {"query": {"path": "shop/cart.py"}},
        "/api/status": {},
        "/api/check": {},
    }
    for path, given in asked.items():
        case = schema[path]["GET"].Case(**given)
        answer = case.call(
            base_url=f"http://127.0.0.1:{rested.port}",
            headers={"Authorization": f"Bearer {rested.token}"},
        )
        assert answer.status_code == 200, path
        case.validate_response(answer, checks=[response_schema_conformance])
    bodies = {
        "/api/notes": {"text": "Described", "anchors": ["shop/cart.py"]},
        "/api/pack": {"task": "cart", "budget": 200},
        "/api/freshness": {"ids": [id_]},
    }
    for path, body in bodies.items():
        case = schema[path]["POST"].Case(body=body, media_type="application/json")
        answer = case.call(
            base_url=f"http://127.0.0.1:{rested.port}",
            headers={"Authorization": f"Bearer {rested.token}"},
        )
        assert answer.status_code == 200, path
        case.validate_response(answer, checks=[response_schema_conformance])
