"""Route and call: ask the chosen model under its budget, and fall back to the next arm when a call fails.

pip install 'r2router' openai
export OPENAI_API_KEY=...              # or OPENAI_BASE_URL for another OpenAI-compatible endpoint
python async_client.py "Who wrote Faust?" "Who painted the Mona Lisa?"
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import openai

import r2router as r2
from r2router.starter import starter

router = starter()


def arms_to_try(decision: r2.Decision) -> list[r2.Arm]:
    """The chosen arm, then those to fall back to."""
    return [decision.arm, *decision.fallbacks]


async def answer(client: openai.AsyncOpenAI, prompt: str) -> str:
    """The first answer that arrives, from the chosen arm or a fallback."""
    decision = await asyncio.to_thread(router.route, prompt)  # the encoder works on the CPU: keep the event loop free
    for arm in arms_to_try(decision):
        limit: dict[str, Any] = (
            {"max_completion_tokens": decision.max_tokens} if arm == decision.arm and decision.max_tokens else {}
        )
        try:
            reply = await client.chat.completions.create(
                model=arm.model, messages=[{"role": "user", "content": prompt}], **limit
            )
        except openai.APIError as error:
            print(f"{arm}: {type(error).__name__}, trying the next arm", file=sys.stderr)
            continue
        return f"[{arm}] {reply.choices[0].message.content}"
    return f"[no arm answered] {prompt}"


async def main(prompts: list[str]) -> None:
    """Answer all prompts at the same time."""
    async with openai.AsyncOpenAI(max_retries=0) as client:
        for text in await asyncio.gather(*(answer(client, prompt) for prompt in prompts)):
            print(text)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["Who wrote Faust?"]))
