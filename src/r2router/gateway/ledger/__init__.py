"""The ledger: one row per request, exact in money, and the limits that it holds."""

from r2router.gateway.ledger.entries import Charge, Limits, Opened, Settled, Ticket
from r2router.gateway.ledger.ledger import Ledger

__all__ = ["Charge", "Ledger", "Limits", "Opened", "Settled", "Ticket"]
