"""The scorer `reasoning-gym`: each task's own verifier. It needs the reasoning-gym package of the `[bench]` extra."""

from __future__ import annotations

from r2router.bench.scoring.answers import final_answer, first_line
from r2router.bench.suite import Query, Score
from r2router.bench.suites.procedural import Maker, entry_of, made
from r2router.bench.thinking import without_thinking


class Verifier:
    """The verifier's own score of the final answer, in [0, 1].

    It is shown the final answer, its first line, the whole response and its last line, and the best of these counts: verifiers expect a
    bare answer, and give next to nothing for one with words around it. The entry is made again from what the query's meta holds.
    """

    name = "reasoning-gym"

    def score(self, query: Query, response: str) -> Score:
        """In [0, 1]; no quality where the entry cannot be made again, or the verifier fails on it."""
        try:
            maker = Maker.of(query)
        except ValueError as error:
            return Score(quality=None, judge=self.name, error=f"the query was not made by reasoning-gym: {error}")
        entry = entry_of(maker)
        if entry["question"].strip() != query.text.strip():
            return Score(
                quality=None, judge=self.name, error=f"another version of reasoning-gym makes another question ({maker.generator})"
            )
        dataset = made(maker.dataset, maker.config_json, maker.seed)
        best = 0.0
        for candidate in candidates(response):
            try:
                best = max(best, float(dataset.score_answer(candidate, entry)))
            except Exception as error:  # noqa: BLE001  verifiers of many authors meet whatever an LLM wrote
                return Score(quality=None, judge=self.name, error=f"the verifier failed: {type(error).__name__}")
        return Score(quality=min(best, 1.0), judge=self.name)


def candidates(response: str) -> list[str]:
    """What may be meant as the answer, without repetitions."""
    response = without_thinking(response)
    answer = final_answer(response)
    lines = [line.strip() for line in response.splitlines() if line.strip()]
    found = [response.strip(), *lines[-1:]]
    if answer is not None:
        line = first_line(answer)
        found += [answer, line, line.strip("*_`$ ").rstrip("."), line.rpartition("=")[2].strip("*_`$ ").rstrip(".")]
    return [c for c in dict.fromkeys(found) if c]
