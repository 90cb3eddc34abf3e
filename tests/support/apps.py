"""A service's HTTP API over a database, as its process serves it, without its loops."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, FastAPI
from sqlalchemy import Engine

from shared.clock import SystemClock
from shared.http import build_app
from shared.s3 import connect_store
from shared.service import Runtime
from shared.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def app_of(settings: S, build_router: Callable[[Runtime[S]], APIRouter], engine: Engine) -> FastAPI:
    """The whole HTTP API of a service."""
    runtime = Runtime(settings=settings, engine=engine, store=connect_store(settings), clock=SystemClock(),
                      instance="test")
    return build_app(settings, engine, build_router(runtime))
