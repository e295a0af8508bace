"""What a person waits for: a warm `router.route` of a 30-word question, `import r2router`, and a cold `r2router route
"..."`.

The warm route runs on one core with the starter router, its encoder included; every question is another one, so that
nothing can be remembered. The import and the command run in fresh processes: the median of 10 after a warm-up, which
also compiles the modules, as installing a package does (an environment that forbids Python to keep what it compiled
would compile two hundred of them at every start).
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile

import measure

ROLES = ("poet", "doctor", "painter", "chemist", "sailor", "lawyer", "farmer", "teacher", "printer", "monk")
PLACES = ("Lisbon", "Prague", "Kyoto", "Boston", "Cairo", "Lima", "Oslo", "Dublin", "Naples", "Bombay")
THINGS = ("novel", "play", "diary", "essay", "song", "letter", "report", "fable", "legend", "memoir")
QUESTION = (
    "Which {} born in {} wrote the {} that inspired the film three years after the end of the war "
    "in which the country lost its oldest and largest harbour?"
)


def questions() -> list[str]:
    """A thousand different questions of 30 words."""
    texts = [QUESTION.format(*words) for words in itertools.product(ROLES, PLACES, THINGS)]
    assert all(len(text.split()) == 30 for text in texts)
    return texts


def warm(args: argparse.Namespace) -> measure.Figures:
    """`route`, and the parts of it, on one core."""
    alone = measure.one_core()
    from r2router.encode import count_tokens, load_encoder
    from r2router.starter import starter

    texts = questions()
    ready = measure.once(lambda: starter().route(texts[-1]))
    router, encoder = starter(), load_encoder("minilm")
    repeats = 20 if args.small else 400
    figures: measure.Figures = {"one_core": alone, "load_and_first_route_s": ready, "words": 30}
    figures["tokens"] = float(count_tokens(texts[:1])[0])
    figures["route"] = measure.percentiles(
        measure.times(lambda i: router.route(texts[i]), repeats, warm_up=repeats // 10)
    )
    figures["encode"] = measure.percentiles(measure.times(lambda i: encoder.encode([texts[-i]]), repeats, warm_up=2))
    figures["count_tokens"] = measure.percentiles(measure.times(lambda i: count_tokens([texts[i]]), repeats, warm_up=2))
    forecast = router.forecast(texts[0])
    figures["explain"] = measure.percentiles(measure.times(lambda _: router.explain(forecast), repeats, warm_up=2))
    vector = encoder.encode(texts[:1])
    figures["decide"] = measure.percentiles(measure.times(lambda _: router.decide(vector), repeats, warm_up=2))
    return figures


def fresh(run: measure.Run) -> measure.Figures:
    """Time and peak memory of fresh processes."""
    repeats = 3 if run.args.small else 10
    python = [sys.executable, "-c"]
    commands = {
        "python": [*python, "pass"],
        "import": [*python, "import r2router"],
        "import_router": [*python, "from r2router import Router"],
        "cold": [*measure.command_line(), "route", questions()[0]],
    }
    figures: measure.Figures = {}
    with tempfile.TemporaryDirectory() as compiled:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        for name, command in commands.items():
            figures[name] = _times(command, repeats, kept | {"PYTHONPYCACHEPREFIX": compiled})
    return figures


def _times(command: list[str], repeats: int, environment: dict[str, str]) -> measure.Figures:
    runs = range(repeats + 1)
    spent = [measure.process(command, stdout=subprocess.DEVNULL, env=environment) for _ in runs][1:]
    if codes := [s.code for s in spent if s.code]:
        return {"failed": f"exit code {codes[0]}"}
    peak = max(s.peak_rss_mib for s in spent)
    figures = measure.percentiles([s.wall_s for s in spent], 1.0, "s")
    return figures | {"cpu_s": statistics.median(s.cpu_s for s in spent), "peak_rss_mib": peak}


def drive(run: measure.Run) -> measure.Figures:
    """All cases, and their table."""
    figures = {"fresh": fresh(run), "warm": run.case("warm")}
    rows = [
        (
            f"warm: {name}",
            *(measure.show(figures, f"warm.{name}.{key}", "{:.2f} ms") for key in ("p50_ms", "p90_ms")),
            "-",
            "-",
        )
        for name in ("route", "encode", "count_tokens", "explain", "decide")
    ]
    labels = {
        "python": "python -c pass",
        "import": "import r2router",
        "import_router": "... and Router",
        "cold": "r2router route",
    }
    for name, label in labels.items():
        cells = [measure.show(figures, f"fresh.{name}.{key}", "{:.3f} s") for key in ("p50_s", "p90_s")]
        cells.append(measure.show(figures, f"fresh.{name}.cpu_s", "{:.3f} s"))
        rows.append((f"fresh: {label}", *cells, measure.show(figures, f"fresh.{name}.peak_rss_mib", "{:,.0f} MiB")))
    measure.table(("", "p50", "p90", "processor time", "peak memory"), rows)
    return figures


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"warm": warm}, drive)
