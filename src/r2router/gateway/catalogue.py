"""`GET /v1/models` in the shapes that clients read: OpenAI's `data`, Anthropic's names and dates, Codex's `models`.

For Codex a model is only its name: its instructions and other settings stay Codex's own.
"""

from __future__ import annotations

from typing import Any

from r2router.gateway.setting import Setting
from r2router.types import Model

_EPOCH = "1970-01-01T00:00:00Z"


def listing(setting: Setting, limit: int | None = None) -> dict[str, Any]:
    """List everything that can be asked for: `auto` and the presets, the callable models, aliases without a glob."""
    entries = [_preset(setting, name) for name in ("auto", *(f"auto:{preset}" for preset in setting.config.presets()))]
    models = [
        m
        for m in (*setting.router.pool.models, *setting.others.values())
        if m.available and m.id not in setting.missing
    ]
    entries += [_entry(m.id, m.provider, m) for m in models]
    entries += [_entry(alias, "r2router", None) for alias in setting.config.alias if not set("*?[") & set(alias)]
    shown = entries if limit is None else entries[:limit]
    return {
        "object": "list",
        "data": shown,
        "models": [{"slug": entry["id"], "display_name": entry["display_name"]} for entry in shown],
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(shown) < len(entries),
    }


def one(setting: Setting, name: str) -> dict[str, Any] | None:
    """Find a model by the name that clients use; None where there is none."""
    found = next((entry for entry in listing(setting)["data"] if entry["id"] == name), None)
    if found is not None:
        return found
    resolved = setting.config.resolve(name)
    if resolved == "auto" or resolved.removeprefix("auto:") in setting.config.presets():
        return _entry(name, "r2router", None)
    model = setting.names.get(resolved.rpartition("@")[0] or resolved) or setting.names.get(resolved)
    return None if model is None or model.id in setting.missing else _entry(name, model.provider, model)


def _preset(setting: Setting, name: str) -> dict[str, Any]:
    entry = _entry(name, "r2router", None)
    if setting.replay:
        entry["display_name"] = f"{name} (replay: no provider key is set)"
    return entry


def _entry(name: str, owner: str, model: Model | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": name, "object": "model", "created": 0, "owned_by": owner, "type": "model", "display_name": name,
        "created_at": _EPOCH,
    }  # fmt: skip
    if model is not None and model.context is not None:
        entry |= {"max_input_tokens": model.context, "context_length": model.context}
    if model is not None and model.max_output_tokens is not None:
        entry["max_tokens"] = model.max_output_tokens
    return entry
