"""The gateway: a server that clients point their base URL at, and the ledger of what it spends. It needs the `[serve]`
extra.
"""
