"""The registry's application over a database, as its process serves it."""

from fastapi import FastAPI
from sqlalchemy import Engine

from services.registry.api import build_router
from services.registry.settings import RegistrySettings
from shared.clock import SystemClock
from shared.http import build_app
from shared.s3 import connect_store
from shared.service import Runtime


def registry_app(engine: Engine) -> FastAPI:
    """The whole HTTP API."""
    settings = RegistrySettings()
    runtime = Runtime(settings=settings, engine=engine, store=connect_store(settings), clock=SystemClock(),
                      instance="test")
    return build_app(settings, engine, build_router(runtime))
