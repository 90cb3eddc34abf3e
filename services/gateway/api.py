"""The doors beside the data path: what is served now, health, metrics. An ordinary web application behind the bridge.

There is no catch-all: whatever is neither here nor a door of the data path, loading and unloading of adapters above
all, never reaches a model server.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.gateway.doorkeeper import Admission
from services.gateway.errors import ApiError
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, RoutePlan, Target
from services.gateway.proxy import DOORS


def build_app(
    metrics: GatewayMetrics, plan: Callable[[], Plan], complete: Callable[[], bool], admission: Admission,
    feedback: Callable[[Request], Awaitable[Response]],
) -> Starlette:
    """The ASGI application.

    Args:
        complete: whether the plan comes from a whole route table, be it one without routes.
        admission: says who asks. Health and metrics are for those who run the gateway, and ask no key.
        feedback: the door for feedback.
    """

    def visible(request: Request) -> list[RoutePlan]:
        caller = admission(dict(request.headers.raw))
        return [route for name, route in plan().routes.items() if caller.may_use(name)]

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(route) for route in visible(request)]})

    async def routes(request: Request) -> Response:
        return JSONResponse({"items": [_route(route) for route in visible(request)]})

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        if complete():
            return PlainTextResponse("ready\n")
        return PlainTextResponse("no route table yet; waiting for Kafka\n", status_code=503)

    async def exposition(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/routes", routes),
            Route("/v1/feedback", feedback, methods=["POST"]),
            Route("/healthz", health),
            Route("/readyz", ready),
            Route("/metrics", exposition),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _bug},
    )


def _model(route: RoutePlan) -> dict[str, Any]:
    spec = route.spec
    return {"id": spec.route, "object": "model", "created": int(spec.updated_at.timestamp()), "owned_by": "tuneloop"}


def _route(route: RoutePlan) -> dict[str, Any]:
    spec = route.spec
    return {
        "route": spec.route,
        "revision": spec.revision,
        "salt": spec.salt,
        "base_model": spec.base_model,
        "updated_at": spec.updated_at.isoformat(),
        "targets": [_target(target) for target in route.targets.values()],
    }


def _target(target: Target) -> dict[str, Any]:
    return {
        "model_version": target.label,
        "role": target.role,
        "weight": target.weight,
        "effective_weight": target.effective_weight,
        "replicas": [{"replica": endpoint.replica, "endpoint": endpoint.url} for endpoint in target.endpoints],
    }


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 404 and request.url.path in DOORS:
        # A door of the data path, which took no notice because of the method.
        status, headers = 405, {"allow": "POST"}
    if status == 405:
        answer = ApiError(405, "method_not_allowed", f"{request.method} is not for {request.url.path}")
    elif status == 404:
        answer = ApiError(404, "not_found", f"the gateway has no {request.url.path}; it serves {', '.join(DOORS)}, "
                                            "/v1/models, /v1/routes and /v1/feedback")
    else:
        answer = ApiError(status, "http_error", str(error))
    return _answer(answer, headers)


async def _api_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return _answer(error, {})


async def _bug(_: Request, __: Exception) -> Response:
    """A mistake of ours; the bridge logs it with its traceback."""
    return _answer(ApiError(500, "internal_error", "the gateway failed; its log says why"), {})


def _answer(error: ApiError, headers: Mapping[str, str]) -> Response:
    ours = {name.decode(): value.decode() for name, value in error.headers()}
    return Response(error.body(), status_code=error.status, headers={**ours, **headers})
