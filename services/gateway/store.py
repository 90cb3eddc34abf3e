"""The route table on disk, so that a gateway that starts while everything else is down serves what it served before."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from services.gateway.table import RefusedFactError, RouteTable, check_route
from shared.telemetry import get_logger

log = get_logger(__name__)

FILE = "route-table.json"


class _Document(BaseModel):
    """What the file holds."""

    format: Literal[1] = 1
    written_at: datetime
    table: RouteTable


class TableStore:
    """Reads and writes the table's file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def save(self, table: RouteTable) -> None:
        """Replace the file; a reader or a crash sees the old one or the new one, never a part."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        document = _Document(written_at=datetime.now(UTC), table=table)
        draft = self.path.with_name(f".{FILE}.{os.getpid()}")
        with draft.open("w", encoding="utf-8") as file:
            file.write(document.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def load(self) -> RouteTable:
        """The table of last time; empty where there is none.

        A file that cannot be understood is set aside under a name with ``.corrupt``, for a person to look at, and the
        gateway waits for Kafka.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return RouteTable()
        except OSError as error:
            log.warning("the route table's file cannot be read; waiting for Kafka", error=str(error))
            return RouteTable()
        try:
            table = _Document.model_validate_json(raw).table
            for route in table.routes.values():
                check_route(route)
        except (ValidationError, RefusedFactError) as error:
            self._set_aside(error)
            return RouteTable()
        return table

    def _set_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{FILE}.{datetime.now(UTC):%Y%m%dT%H%M%S}.corrupt")
        try:
            self.path.replace(aside)
        except OSError as problem:
            log.warning("the corrupt route table cannot be moved", path=str(self.path), error=str(problem))
        log.error(
            "the route table's file is corrupt; it was set aside, and the gateway waits for Kafka",
            path=str(self.path), aside=str(aside), error=str(error).replace("\n", " ")[:500],
        )
