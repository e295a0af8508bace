"""A named fake: the fake endpoint as a judge, whose verdicts follow rules, and which can be clumsy in every way that
judges are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from r2router.testing import endpoint as fake_endpoint

Say = Callable[[str, int], str]
"""(the material, how often it was asked about it) -> the judge's reply."""


def by_length(material: str, _times: int) -> str:
    """A verdict by the response's length in words, up to ten."""
    found = re.search(r"<response-(\w+)>\n(.*?)\n</response-\1>", material, re.DOTALL)
    assert found is not None, material
    return json.dumps({"reason": "its length", "score": min(10, len(found[2].split())) / 10})


class FakeJudge(fake_endpoint.FakeEndpoint):
    """say: what it replies. schema: whether it takes a `response_format`. context: the most characters of a prompt that
    it takes.

    finish: why it says that it ended.
    """

    def __init__(
        self,
        say: Say = by_length,
        *,
        schema: bool = True,
        context: int | None = None,
        finish: str = "stop",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.say, self.schema, self.context, self.finish = say, schema, context, finish
        self.asked: list[str] = []

    async def _answer(
        self, request: web.Request, body: Any, what: str, prompt: int, fault: str | None
    ) -> web.StreamResponse:
        if "response_format" in body and not self.schema:
            response: web.StreamResponse = fake_endpoint.error(
                400, "response_format is not supported", "unsupported_parameter"
            )
            return response
        material = body["messages"][1]["content"]
        if self.context is not None and len(material) > self.context:
            too_long: web.StreamResponse = fake_endpoint.error(
                400, "maximum context length exceeded", "context_length_exceeded"
            )
            return too_long
        known = re.sub(r"(?<=-)[0-9a-f]{32}(?=>)", "", material)  # each call has marks of its own
        self.asked.append(known)
        text = self.say(material, self.asked.count(known))
        self.billed[what] += 1
        usage = {"prompt_tokens": prompt, "completion_tokens": max(1, len(text) // 4)}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish}
        return web.json_response({"model": body["model"], "choices": [choice], "usage": usage})
