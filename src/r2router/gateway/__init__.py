"""The gateway: a server that clients point their base URL at. It chooses an arm for each request, and relays. Needs the `[serve]` extra."""
