"""The doors beside the data path: what is served now, health, metrics. An ordinary web application behind the bridge.

There is no catch-all: whatever is neither here nor a door of the data path, loading and unloading of adapters above
all, never reaches a model server.
"""

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.gateway.errors import ApiError
from services.gateway.metrics import GatewayMetrics
from services.gateway.plan import Plan, RoutePlan, Target
from services.gateway.proxy import DOORS


def build_app(metrics: GatewayMetrics, plan: Callable[[], Plan], complete: Callable[[], bool]) -> Starlette:
    """The ASGI application.

    Args:
        complete: whether the plan comes from a whole route table, be it one without routes.
    """

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(route) for route in plan().routes.values()]})

    async def routes(_: Request) -> Response:
        return JSONResponse({"items": [_route(route) for route in plan().routes.values()]})

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
            Route("/healthz", health),
            Route("/readyz", ready),
            Route("/metrics", exposition),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
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
                                            "/v1/models and /v1/routes")
    else:
        answer = ApiError(status, "http_error", str(error))
    return Response(answer.body(), status_code=status, headers=headers, media_type="application/json")


async def _bug(_: Request, __: Exception) -> Response:
    """A mistake of ours; the bridge logs it with its traceback."""
    answer = ApiError(500, "internal_error", "the gateway failed; its log says why")
    return Response(answer.body(), status_code=500, media_type="application/json")
