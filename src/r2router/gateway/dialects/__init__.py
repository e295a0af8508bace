"""The wire formats of the gateway, one class each."""

from r2router.gateway.dialects.chat import Chat
from r2router.gateway.dialects.dialect import Dialect, Speaks
from r2router.gateway.dialects.legacy import Completions, Embeddings
from r2router.gateway.dialects.messages import Messages
from r2router.gateway.dialects.responses import Responses

DIALECTS: tuple[Dialect, ...] = (Chat(), Responses(), Messages(), Completions(), Embeddings())
"""All of them, by what clients use most."""

NAMED: dict[Speaks, Dialect] = {dialect.name: dialect for dialect in DIALECTS}
