"""Routing a whole file in bounded memory: texts or embeddings in, one row of decision for each of them out, in order.

A row that cannot be routed (empty, malformed, over the cap) comes out with an `error` and stops nothing.
"""

from r2router.stream.batch import QueryBatch
from r2router.stream.read import batches
from r2router.stream.route import Summary, route_file

__all__ = ["QueryBatch", "Summary", "batches", "route_file"]
