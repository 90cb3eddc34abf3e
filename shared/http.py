"""The HTTP face that all services share: health, readiness, metrics, the inbox for operators, and error answers."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.db import transaction
from shared.errors import ConflictError, InvalidInputError, NotFoundError, PermanentError, TemporaryError, TuneloopError
from shared.messaging import list_inbox, requeue
from shared.settings import ServiceSettings

_STATUS: tuple[tuple[type[TuneloopError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (InvalidInputError, 422),
    (PermanentError, 400),
    (TemporaryError, 503),
)


def build_app(settings: ServiceSettings, engine: Engine, router: APIRouter | None) -> FastAPI:
    """The service's FastAPI application."""
    app = FastAPI(title=f"tuneloop {settings.service}", docs_url="/docs", redoc_url=None)
    app.add_exception_handler(TuneloopError, _answer_error)
    app.include_router(health_router(lambda: _check_database(engine)))
    app.include_router(_inbox_router(engine))
    if router is not None:
        app.include_router(router)
    return app


def health_router(check_ready: Callable[[], str]) -> APIRouter:
    """``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        check_ready: says what is missing before the service can work, or ``""``.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz")
    def readyz() -> dict[str, str]:
        missing = check_ready()
        if missing:
            raise HTTPException(503, missing)
        return {"status": "ready"}

    @router.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _check_database(engine: Engine) -> str:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return f"the database does not answer: {error}"
    return ""


def _inbox_router(engine: Engine) -> APIRouter:
    router = APIRouter(prefix="/v1/inbox", tags=["operations"])

    @router.get("")
    def get_inbox(status: str = "dead", limit: int = 100) -> dict[str, Any]:
        """Events in the inbox, oldest first; ``dead`` ones wait for a person."""
        with transaction(engine) as session:
            return {"items": list_inbox(session, status=status, limit=limit)}

    @router.post("/{seq}/requeue")
    def post_requeue(seq: int) -> dict[str, Any]:
        """Let a dead event be handled again, now, with fresh attempts."""
        with transaction(engine) as session:
            requeue(session, seq)
        return {"seq": seq, "status": "pending"}

    return router


def error_body(error: TuneloopError) -> dict[str, Any]:
    """The JSON that every error of ours is answered with."""
    return {"error": {"type": type(error).__name__, "message": str(error)}}


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TuneloopError)  # noqa: S101 - registered for this class alone
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return JSONResponse(error_body(error), status_code=status)
