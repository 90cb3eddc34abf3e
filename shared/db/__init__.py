"""SQL for every service: one database each, SQLite on one machine and PostgreSQL in production.

The database is the only truth of a service; Kafka carries facts between the databases. So everything that must
survive a crash is written inside `transaction`, and nothing inside it talks to the network.
"""

from shared.db.base import UtcDateTime
from shared.db.engine import connect, on_commit, reading, transaction
from shared.db.migrate import migrate
from shared.db.schema import create_messaging_tables

__all__ = [
    "UtcDateTime",
    "connect",
    "create_messaging_tables",
    "migrate",
    "on_commit",
    "reading",
    "transaction",
]
