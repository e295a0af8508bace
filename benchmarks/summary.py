"""The table of targets and what was measured, written into README.md between two markers; every experiment's answers,
into docs/results.md.

Reads `results/*.json`, measures nothing itself. A figure that no run has given yet stays open, and one of a small run
is not judged.

usage: python benchmarks/summary.py [--results DIR] [--stdout]
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
from quality import interval

README = measure.ROOT / "benchmarks" / "README.md"
ANSWERS = measure.ROOT / "docs" / "results.md"
BEGIN, END = "<!-- summary: begin -->", "<!-- summary: end -->"


@dataclass(frozen=True)
class Row:
    """One target: `key` leads to the figure in the results of `script`; it meets the target at most, or at least, at
    `limit`.

    scale: what the figure is multiplied by before it is compared and shown. No limit: shown beside the targets,
    promised by nobody.
    """

    what: str
    script: str
    key: str
    form: str
    at_most: float | None = None
    at_least: float | None = None
    scale: float = 1.0

    def target(self) -> str:
        """The target in words."""
        form = self.form if "%" in self.form else re.sub(r"\{.*?\}", "{:,g}", self.form)
        if self.at_most is not None:
            return "at most " + form.format(self.at_most)
        return "at least " + form.format(self.at_least) if self.at_least is not None else ""

    def met(self, value: float) -> bool | None:
        """Whether a figure meets the target; None where there is none."""
        if self.at_most is not None:
            return value <= self.at_most
        return value >= self.at_least if self.at_least is not None else None


def _decisions() -> Iterator[Row]:
    heads = {"released": "the paper's released heads", "ridge": "`Ridge`", "default": "the default learner"}
    for name, words in heads.items():
        yield Row(
            f"one decision, embedding given, one thread, p50: {words}",
            "decide",
            f"one.{name}.p50_ms",
            "{:.3f} ms",
            at_most=0.1,
        )
    for name, words in heads.items():
        form = "{:,.0f}x faster"
        yield Row(
            f"... than head by head with scikit-learn: {words}",
            "decide",
            f"one.{name}.times_faster",
            form,
            at_least=100,
        )
    for name, words in heads.items():
        form = "{:,.0f} a second"
        for threads, label in ((1, "one thread"), (2, "two threads")):
            key = f"batch_{threads}.{name}.decisions_a_second"
            yield Row(f"decisions in batches of 100,000, {label}: {words}", "decide", key, form, at_least=100_000)


_GAP = "methods.default.gap_closed"
_TTS, _RIVALS = "tts_knowledge, split 0", "simpleqa_verified, split 0.rivals"
ROWS = (
    *_decisions(),
    Row(
        "`route` of 30 words, warm, encoder included, one core, p50",
        "route",
        "warm.route.p50_ms",
        "{:.1f} ms",
        at_most=10,
    ),
    Row("`import r2router`, whole process", "route", "fresh.import.p50_s", "{:.2f} s", at_most=0.3),
    Row('`r2router route "..."`, cold', "route", "fresh.cold.p50_s", "{:.2f} s", at_most=1.5),
    Row("training `Ridge`, 24,774 x 1,024, 352 heads", "train_ridge", "ridge, full.fit_s", "{:.1f} s", at_most=20),
    Row(
        "... peak memory of the process",
        "train_ridge",
        "ridge, full.peak_rss_mib",
        "{:.2f} GiB",
        at_most=2,
        scale=1 / 1024,
    ),
    Row("... a tenth of the cells missing, in two patterns", "train_ridge", "ridge, two patterns.fit_s", "{:.1f} s"),
    Row("... a tenth missing, at random", "train_ridge", "ridge, random.fit_s", "{:.1f} s"),
    Row("training the default learner on the same", "train_ridge", "default, full.fit_s", "{:.1f} s", at_most=20),
    Row(
        "... peak memory of the process",
        "train_ridge",
        "default, full.peak_rss_mib",
        "{:.2f} GiB",
        at_most=2,
        scale=1 / 1024,
    ),
    Row("... a tenth of the cells missing, in two patterns", "train_ridge", "default, two patterns.fit_s", "{:.1f} s"),
    Row("... a tenth missing, at random", "train_ridge", "default, random.fit_s", "{:.1f} s"),
    Row(
        "the paper's MLP heads: training steps, of `torch.mm`",
        "train_mlp",
        "steps.epoch.share_done",
        "{:.0%}",
        at_least=0.5,
    ),
    Row("... counted as the paper's 7.9 TFLOP an epoch are", "train_mlp", "steps.epoch.share_paper", "{:.0%}"),
    Row("... a whole fit of one epoch, 176 heads", "train_mlp", "full.all_queries.s", "{:.0f} s"),
    Row(
        "... of `torch.mm`, everything in the fit counted as time", "train_mlp", "full.all_queries.share_done", "{:.0%}"
    ),
    Row(
        "exact curve over all lambdas, 6,194 queries x 176 arms",
        "evaluate_exact",
        "exact.curve.p50_s",
        "{:.2f} s",
        at_most=3,
    ),
    Row(
        "... with fixed arms, one budget per LLM and oracle",
        "evaluate_exact",
        "exact.compare.p50_s",
        "{:.2f} s",
        at_most=3,
    ),
    Row("... `evaluate`: forecasts and report too", "evaluate_exact", "exact.evaluate.p50_s", "{:.2f} s", at_most=3),
    Row("... and 500 bootstrap draws", "evaluate_exact", "exact.evaluate_with_intervals.p50_s", "{:.1f} s"),
    Row(
        "1,000,000 embeddings from a file: peak memory",
        "route_file",
        "command.peak_rss_mib",
        "{:.2f} GiB",
        at_most=2,
        scale=1 / 1024,
    ),
    Row("... time", "route_file", "command.s", "{:.0f} s"),
    Row(
        "... decisions a second, reading and writing included",
        "route_file",
        "command.decisions_a_second",
        "{:,.0f} a second",
    ),
    Row("a simulated table, 30,968 queries x 240 arms: made", "simulate", "make.simulate_s", "{:.0f} s"),
    Row("... written as Parquet", "simulate", "make.write_s", "{:.0f} s"),
    Row("... peak memory of the process", "simulate", "make.peak_rss_mib", "{:.2f} GiB", at_most=4, scale=1 / 1024),
    Row("... read back", "simulate", "read.read_s", "{:.0f} s"),
    Row("... peak memory of the process", "simulate", "read.peak_rss_mib", "{:.2f} GiB", at_most=4, scale=1 / 1024),
    Row("`reproduce main` on both tables, all baselines, five seeds", "reproduce", "main_s", "{:.0f} s", at_most=900),
    Row(
        "collecting 10,000 calls, 5 ms endpoint, concurrency 64",
        "collect",
        "whole.calls_per_s",
        "{:,.0f} a second",
        at_least=500,
    ),
    Row("... streamed", "collect", "streamed.calls_per_s", "{:,.0f} a second", at_least=500),
    Row("... own CPU time a call", "collect", "whole.own_ms_per_call", "{:.2f} ms", at_most=1),
    Row("... streamed", "collect", "streamed.own_ms_per_call", "{:.2f} ms", at_most=1),
    Row("... memory at the end over memory at a tenth", "collect", "whole.growth", "{:.2f}", at_most=1.1),
    Row("... as Ray work on this machine", "collect", "ray.calls_per_s", "{:,.0f} a second"),
    Row(
        "scoring 1,000 programs, over the time before the sandbox: bubblewrap",
        "score_code",
        "bubblewrap.over_before",
        "{:.2f}",
        at_most=1.1,
    ),
    Row("... util-linux alone", "score_code", "util-linux.over_before", "{:.2f}", at_most=1.1),
    Row("... time, bubblewrap", "score_code", "bubblewrap.s", "{:.0f} s"),
    Row("opening a journal of 1,000,000 records, 1.2 GiB", "collect", "journal.open_s", "{:.1f} s"),
    Row(
        "area over plain ridge on `tts_knowledge`",
        "quality",
        "tts_knowledge.default_minus.ridge.area",
        "{:+.4f}",
        at_least=0,
    ),
    Row(
        "area over the best mixture of fixed arms",
        "quality",
        "tts_knowledge.default_minus.fixed.area",
        "{:+.4f}",
        at_least=0,
    ),
    Row(
        "area over plain ridge on `jhu_concise_cot`",
        "quality",
        "jhu_concise_cot.default_minus.ridge.area",
        "{:+.4f}",
        at_least=0,
    ),
    Row(
        "area over the best mixture of fixed arms",
        "quality",
        "jhu_concise_cot.default_minus.fixed.area",
        "{:+.4f}",
        at_least=0,
    ),
    Row(
        "gap from the mixture to the oracle closed, `tts_knowledge`",
        "quality",
        f"tts_knowledge.{_GAP}",
        "{:.1%}",
        at_least=0.1,
    ),
    Row("... `jhu_concise_cot`", "quality", f"jhu_concise_cot.{_GAP}", "{:.1%}", at_least=0.4),
    Row("routers that know nothing called better, of all draws", "nulls", "all.above", "{:.0f}"),
    Row("... of so many draws", "nulls", "all.draws", "{:.0f}"),
    Row(
        "cascade: gap from the mixture to the oracle closed, `tts_knowledge`",
        "cascade",
        f"{_TTS}.gap.cascade",
        "{:.1%}",
        at_least=0.08,
    ),
    Row("... routing alone", "cascade", f"{_TTS}.gap.routing", "{:.1%}"),
    Row(
        "... 95 % of the best LLM's quality, per 1,000 requests",
        "cascade",
        f"{_TTS}.usd_at_95.cascade",
        "${:.2f}",
        at_most=1.3,
    ),
    Row(
        "... area over routing alone, SimpleQA-Verified",
        "cascade",
        "simpleqa_verified, split 0.more",
        "{:+.4f}",
        at_least=0,
    ),
    Row("... R2-Bench-mini", "cascade", "r2bench-mini, split 0.more", "{:+.4f}", at_least=0),
    Row(
        "... `jhu_concise_cot`, which has no answers", "cascade", "jhu_concise_cot, split 0.more", "{:+.4f}", at_least=0
    ),
    Row(
        "... over a threshold cascade, SimpleQA-Verified",
        "cascade",
        f"{_RIVALS}.threshold cascade",
        "{:+.4f}",
        at_least=0,
    ),
    Row("... over cascade routing", "cascade", f"{_RIVALS}.cascade routing", "{:+.4f}"),
    Row(
        "... a step that looks at 300 tokens, new question, one core",
        "cascade",
        "step.new.p50",
        "{:.1f} ms",
        at_most=25,
    ),
    Row(
        "own policy keeps 95 % on held-out queries, `tts_knowledge`",
        "quality",
        "tts_knowledge.kept.kept",
        "{:.0%} of splits",
    ),
    Row("... `jhu_concise_cot`", "quality", "jhu_concise_cot.kept.kept", "{:.0%} of splits"),
    Row(
        "decisions unchanged by typos, `tts_knowledge`",
        "robustness",
        "tts_knowledge.default.typo.unchanged",
        "{:.1%}",
        at_least=0.9,
    ),
    Row("... by other case", "robustness", "tts_knowledge.default.case.unchanged", "{:.1%}", at_least=0.9),
    Row("... by filler words", "robustness", "tts_knowledge.default.filler.unchanged", "{:.1%}", at_least=0.9),
    Row(
        "decisions unchanged by typos, `jhu_concise_cot`",
        "robustness",
        "jhu_concise_cot.default.typo.unchanged",
        "{:.1%}",
        at_least=0.9,
    ),
    Row("... by other case", "robustness", "jhu_concise_cot.default.case.unchanged", "{:.1%}", at_least=0.9),
    Row("... by filler words", "robustness", "jhu_concise_cot.default.filler.unchanged", "{:.1%}", at_least=0.9),
)
OPTIONS = {"train_mlp": " --full", "collect": " --ray"}
SCRIPTS = tuple(dict.fromkeys(row.script for row in ROWS))


def summary(records: dict[str, Any]) -> str:
    """The whole generated part of the README."""
    return "\n\n".join(
        part for part in ("\n".join(_targets(records)), "\n".join(_machines(records)), *_quality(records)) if part
    )


def _targets(records: dict[str, Any]) -> Iterator[str]:
    yield "| what | target | measured | command |"
    yield "| --- | --- | --- | --- |"
    for row in ROWS:
        if row.key.startswith("default, ") and _find(records, row.script, "default") is not None:
            continue  # the default learner is the one of the rows before
        command = f"python benchmarks/{row.script}.py{OPTIONS.get(row.script, '')}"
        yield f"| {row.what} | {row.target()} | {_measured(row, records)} | `{command}` |"


def _measured(row: Row, records: dict[str, Any]) -> str:
    """The figure, and whether it meets the target; or why there is none."""
    if row.script not in records:
        return "not measured yet"
    found = _find(records, row.script, row.key)
    if found is None:
        return str(_find(records, row.script, "skipped") or "not measured")
    if isinstance(found, str):
        return found
    value = found["value"] if isinstance(found, dict) else found
    if value is None:
        return "not available"
    text = row.form.format(value * row.scale)
    if isinstance(found, dict):
        low, high = (found[side] for side in ("low", "high"))
        text += f" [{row.form.format(low * row.scale)}, {row.form.format(high * row.scale)}]"
    if records[row.script]["small"]:
        return text + " (small run)"
    return text + {None: "", True: ", met", False: ", **missed**"}[row.met(value * row.scale)]


def _find(records: dict[str, Any], script: str, key: str) -> Any:
    """The figure at a dotted key (a part may hold commas and blanks), the reason of a case that failed, or None."""
    value = records.get(script, {}).get("figures")
    for part in key.split("."):
        if isinstance(value, dict) and "failed" in value:
            return f"failed: {value['failed']}"
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _machines(records: dict[str, Any]) -> Iterator[str]:
    """Where and when each script was run; equal set-ups are named once."""
    runs: dict[str, list[str]] = {}
    for name in SCRIPTS:
        if name not in records:
            continue
        record = records[name]
        where = record["environment"]
        libraries = ", ".join(
            f"{k} {v}" for k, v in where["libraries"].items() if k in ("numpy", "onnxruntime", "scikit-learn", "torch")
        )
        text = (
            f"{record['date'][:10]}, {where['cpu']}, {where['cores_usable']} cores, {where['memory_gib']:.0f} GiB,"
            f" {where['system']}, Python {where['python']}, {libraries}; revision {record['revision']}"
        )
        runs.setdefault(text, []).append(f"{name} (load {_load(record)})")
    for text, names in runs.items():
        yield f"- {', '.join(names)}: {text}"


def _load(record: dict[str, Any]) -> str:
    before, after = record["load_before_and_after"]
    words = f"{before[0]:.1f} before, {after[0]:.1f} after" if before and after else "unknown"
    reference = record.get("reference_s_before_and_after")
    return f"{words}; reference loop {' and '.join(f'{1_000 * s:.0f}' for s in reference)} ms" if reference else words


LABELS: dict[str, Callable[[dict[str, Any]], str]] = {
    "default": lambda f: f"default: `{f['learners']['default']['spec']}`",
    "ridge": lambda f: f"plain ridge: `{f['learners']['ridge']['spec']}`",
    "knn": lambda f: "k nearest neighbours",
    "gbdt": lambda f: "boosted trees",
    "one budget": lambda f: "default's forecasts, one budget per LLM",
    "fixed": lambda f: "best mixture of fixed arms, chosen on other folds",
    "fixed known": lambda f: "best mixture of fixed arms, these outcomes known",
    "oracle": lambda f: "oracle",
}
FORMS = {"area": ".4f", "qnc": ".3f", "peak": ".3f", "gap_closed": ".1%"}


def _quality(records: dict[str, Any]) -> Iterator[str]:
    """One table of methods, differences and tasks for each outcome table."""
    for name, figures in records.get("quality", {}).get("figures", {}).items():
        if not isinstance(figures, dict) or "methods" not in figures:
            continue
        best = figures["best_fixed_arm"]
        head = (
            f"**{name}**: {figures['queries']:,} queries, {figures['arms']} arms; {figures['folds']} folds, mean over"
            " the seeds;"
        )
        lines = [
            f"{head} best fixed arm {best['arm']}, quality {best['quality']:.3f}.",
            "",
            "| method | seeds | area over log cost | QNC | peak quality | gap closed |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for method, row in figures["methods"].items():
            seeds = figures["learners"].get("default" if method == "one budget" else method, {}).get("seeds", "")
            cells = [interval(row[key], form) for key, form in FORMS.items()]
            lines.append(f"| {LABELS[method](figures)} | {seeds} | {' | '.join(cells)} |")
        for method in ("ridge", "fixed", "fixed known", "one budget"):
            if method in figures["default_minus"]:
                row = figures["default_minus"][method]
                cells = [interval(row[key], f"+{form}") for key, form in FORMS.items()]
                lines.append(f"| default minus {method} | | {' | '.join(cells)} |")
        lines += [
            "",
            "| task | queries | area, default | minus ridge | minus mixture | minus knowing mixture |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for task, row in figures["tasks"].items():
            minus = [
                interval(row["default_minus"][method]["area"], "+.3f") for method in ("ridge", "fixed", "fixed known")
            ]
            cells = [interval(row["methods"]["default"]["area"], ".3f"), *minus]
            lines.append(f"| {task} | {row['queries']} | {' | '.join(cells)} |")
        yield "\n".join(lines)


def answers(records: dict[str, Any]) -> str:
    """What each experiment answers on each table, and the report it is from."""
    parts = []
    tables = {t: found for t, found in _figures(records, "reproduce").items() if isinstance(found, dict)}
    for table, found in _figures(records, "reproduce_cascade").items():
        if isinstance(found, dict):
            tables[table] = tables.get(table, {}) | {"cascade": found}
    for table, experiments in tables.items():
        parts.append(f"### {table}")
        for name, found in experiments.items():
            file, _, task = name.partition(", ")
            report = f"reports/{table}-{file}{'-' + task if task else ''}.html"
            lines = [*found.get("answers", [found.get("not available", "not measured")]), *found.get("verdict", [])]
            title = f"[**`{file}`**{' on ' + task.upper() if task else ''}]({report})"
            parts.append("\n".join([title, "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts)


def _figures(records: dict[str, Any], script: str) -> dict[str, Any]:
    found: dict[str, Any] = records.get(script, {}).get("figures", {})
    return found


def write(path: Path, text: str) -> None:
    """Put the text between the markers of a file."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path.name} lacks the markers {BEGIN} and {END}: put them where the summary belongs")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Read the results, write the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--results",
        type=Path,
        default=measure.RESULTS,
        metavar="DIR",
        help="where the figures are; by default results/",
    )
    parser.add_argument("--stdout", action="store_true", help="print the summary and leave README.md as it is")
    args = parser.parse_args()
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(args.results.glob("*.json"))}
    text = summary(records)
    if args.stdout:
        print(text)
        return
    write(README, text)
    write(ANSWERS, answers(records))
    open_rows = sum(row.script not in records for row in ROWS)
    print(f"{README.relative_to(measure.ROOT)}: {len(ROWS)} rows, {open_rows} not measured yet")


if __name__ == "__main__":
    main()
