#!/usr/bin/env python3
"""Write docs/plain-prompts.md: what the starter router decides on plain prompts of our own, beside what a sensible
person would expect.

usage: plain_prompts_page.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from r2router.text import markdown, request_cost  # noqa: E402
from test_plain_prompts import PROMPTS, decided, thinks  # noqa: E402

HEAD = """# Plain prompts

{n} prompts as people write them, with what a sensible person would expect of the decision, whichever arm it is: that it costs no more
than so much, that the model is good enough, and that it thinks before it answers, or does not. The expectations
(`tests/plain_prompts.toml`) were written before anybody looked at what the starter router decides, and none was changed since.

**{right} of {n} decisions are as expected**, under the router's own policy, with all its models. A test holds that share. What falls
short is marked. *Fair* is a model that is not of the weakest third of all arms by its mean over everything that was graded, *strong* one
of the stronger half. Written by `python scripts/plain_prompts_page.py`.
"""


def main() -> None:
    """Write the page."""
    rows = decided()
    right = sum(not words for _, _, words in rows)
    lines = [HEAD.format(n=len(rows), right=right)]
    for kind in dict.fromkeys(prompt["kind"] for prompt in PROMPTS):
        lines += [
            f"## {kind[0].upper()}{kind[1:]}",
            "",
            "| prompt | expected | decided | forecast | falls short |",
            "| --- | --- | --- | --- | --- |",
        ]
        for prompt, found, words in rows:
            if prompt["kind"] == kind:
                level = {"any": "any model", "fair": "a fair model", "strong": "a strong model"}[prompt["level"]]
                thinking = {"any": "", "yes": ", thinking", "no": ", no thinking"}[prompt["thinking"]]
                expected = f"{level}{thinking}, at most {request_cost(prompt['most_usd'])}"
                quality = f"{found.quality:.2f} ± {found.spread:.2f}" if found.familiar else "quality not known"
                does = " (thinks)" if thinks(found.arm) else ""
                cells = (
                    markdown(prompt["text"]),
                    expected,
                    f"`{found.arm}`{does}",
                    f"{quality}, {request_cost(found.cost)}",
                    "; ".join(words),
                )
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    (ROOT / "docs" / "plain-prompts.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"docs/plain-prompts.md: {right} of {len(rows)} as expected")


if __name__ == "__main__":
    main()
