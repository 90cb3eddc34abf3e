"""Effectively-once delivery between services: inbox, outbox, and the loops that move rows.

A handler's effects, the facts that follow and the mark "handled" commit in one transaction of one database. Kafka may
lose a commit of an offset, or deliver twice; the inbox drops what it has seen. The outbox is published afterwards, as
often as it takes. See docs/architecture.md, "Delivery".
"""

from shared.messaging.admin import InboxItem, list_inbox, requeue
from shared.messaging.consume import ConsumeLoop
from shared.messaging.handlers import Handler, HandlerContext, Handlers, topics_of
from shared.messaging.outbox import emit
from shared.messaging.process import ProcessLoop
from shared.messaging.relay import RelayLoop
from shared.messaging.table_consumer import TableConsumer
from shared.messaging.tables import Inbox, Outbox

__all__ = [
    "ConsumeLoop",
    "Handler",
    "HandlerContext",
    "Handlers",
    "Inbox",
    "InboxItem",
    "Outbox",
    "ProcessLoop",
    "RelayLoop",
    "TableConsumer",
    "emit",
    "list_inbox",
    "requeue",
    "topics_of",
]
