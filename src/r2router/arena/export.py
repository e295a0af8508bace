"""Decisions for RouterArena: one prediction a prompt, and what a submitter must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from r2router.arena.checkout import check_models
from r2router.arena.files import ArenaPrompt, read_prompts
from r2router.decide import Policy
from r2router.encode import count_tokens
from r2router.errors import DataError, UsageError
from r2router.files import whole_file
from r2router.router.router import Router
from r2router.router.trained import TrainedTexts
from r2router.table.rows import Reading, read_all_rows
from r2router.table.sources import sha256
from r2router.text import listing, suggest
from r2router.types import Progress

_BATCH = 256
_MIN_LETTERS = 30  # of a training text that is looked for in the prompts: shorter ones stand in many


class Prediction(msgspec.Struct, frozen=True, rename={"index": "global index"}):
    """One prediction, field by field as RouterArena has it; those that begin with r2router are ours.

    prediction: a model, by RouterArena's name.
    r2router_max_tokens: the output length that enforces the budget, where one does.
    """

    index: str
    prompt: str
    prediction: str
    r2router_arm: str
    r2router_budget: str
    r2router_max_tokens: int | None = None
    generated_result: None = None
    cost: None = None
    accuracy: None = None
    for_optimality: bool = False


class Export(msgspec.Struct, frozen=True):
    """Predictions for a file of prompts.

    models: RouterArena's name -> how often it was chosen.
    notes: what a submitter must know.
    """

    predictions: tuple[Prediction, ...]
    models: dict[str, int]
    notes: tuple[str, ...]

    def write(self, path: str | Path) -> None:
        """Write the prediction file. Raises `SaveError`; what was there before survives a failure."""
        with whole_file(path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(self.predictions), indent=2))

    def write_config(self, path: str | Path, router_name: str) -> None:
        """Write the config that RouterArena wants with it: the router's name and its models. Raises `SaveError`."""
        config = {"pipeline_params": {"router_name": router_name, "models": sorted(self.models)}}
        with whole_file(path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(config), indent=2))


def export(  # noqa: PLR0913 - all but two are optional, and given by name
    router: Router,
    prompts: str | Path,
    *,
    policy: Policy | None = None,
    names: Mapping[str, str] | None = None,
    trained_on: Sequence[str | Path] = (),
    require: Iterable[str] = (),
    exclude: Iterable[str] = (),
    arena: str | Path | None = None,
    progress: Progress | None = None,
) -> Export:
    """Return the router's decision on every prompt of a file.

    policy: by default the router's own.
    names: our model's id -> RouterArena's name; others keep their id.
    require, exclude: as in `Router.route`.
    arena: a copy of RouterArena's repository, whose lists of names and prices the chosen models are checked against, as
        its own check does.
    trained_on: the tables that the router was trained on, whose texts are then looked for among the prompts. A router
        keeps a digest of its training texts (see `r2router.router.trained`), so that they are only needed where it has
        none, or one of a sample.

    Raises `DataError` where a file is not what it should be, `UsageError` for a name of a model that the router does
    not have, and what `Router.route` raises.
    """
    asked = read_prompts(prompts)
    require, exclude = tuple(require), tuple(exclude)
    renamed, known = dict(names or {}), {m.id for m in router.pool.models}
    if strange := sorted(set(renamed) - known):
        raise UsageError(f"a name for model {strange[0]!r}, which the router does not have{suggest(strange[0], known)}")
    notes = [*_provenance(router, prompts, asked, trained_on)]
    predictions: list[Prediction] = []
    for at in range(0, len(asked), _BATCH):
        part = asked[at : at + _BATCH]
        counts = count_tokens([p.text for p in part])
        forecast = router.forecast([p.text for p in part])
        for i, prompt in enumerate(part):
            d = router.explain(forecast[i : i + 1], policy, router.usable(require, exclude, counts[i : i + 1]))
            name = renamed.get(d.model, d.model)
            predictions.append(Prediction(prompt.index, prompt.text, name, str(d.arm), d.budget, d.max_tokens))
        if progress is not None:
            progress("routing", at + len(part), len(asked))
    chosen = {p.r2router_arm.partition("@")[0] for p in predictions}
    if arena is not None:
        check_models({p.prediction for p in predictions}, arena)
    elif own := sorted(chosen - set(renamed)):
        notes.append(
            f"{listing(own)}: named as the router names them; RouterArena takes those of its universal_model_names.py"
            " (arena=, --arena)"
        )
    notes.append(
        "RouterArena calls models without a budget: ask them under r2router_budget, or the results are not this"
        " router's"
    )
    return Export(tuple(predictions), dict(Counter(p.prediction for p in predictions).most_common()), tuple(notes))


def _provenance(
    router: Router, path: str | Path, prompts: Sequence[ArenaPrompt], tables: Sequence[str | Path]
) -> Iterator[str]:
    """Notes on whether the router was trained on the prompts, as far as that can be known."""
    own = {digest: name for name, digest in router.facts.sources if digest}
    if sha256(Path(path)) in own:
        yield f"the router was trained on {path} itself: RouterArena refuses it"
    for table in tables:
        rows = read_all_rows(table, Reading())
        if strange := [name for name, digest in rows.files if digest not in own]:
            raise DataError(
                f"{strange[0]}: the router was not trained on this file: its sha256 is not on the router's card"
            )
        for _, digest in rows.files:
            own.pop(digest, None)
        texts = TrainedTexts.of_all(text for text in rows.frame["query"].unique() if len(text) >= _MIN_LETTERS)
        if met := _met(prompts, texts):
            yield (
                f"{len(met)} prompts hold a text that the router was trained on ({listing(met)}): RouterArena refuses"
                " such routers"
            )
    if router.trained is not None and own:
        if met := _met(prompts, router.trained):
            yield (
                f"{len(met)} prompts hold a text that the router was trained on ({listing(met)}): RouterArena refuses"
                " such routers"
            )
        if not router.trained.is_sample:
            return
    if own:
        yield (
            f"whether the prompts were among {listing(sorted(own.values()))} is not checked: name those files"
            " (trained_on=, --trained-on)"
        )
    elif not router.facts.sources:
        yield "the router does not say what it was trained on, so whether the prompts were among it cannot be checked"


def _met(prompts: Sequence[ArenaPrompt], trained: TrainedTexts) -> list[str]:
    """Return the indices of the prompts that hold a training text."""
    return [p.index for p in prompts if trained.holds(_parts(p.text)).any()]


def _parts(prompt: str) -> list[str]:
    """Return the prompt and its paragraphs, without labels such as `Question:`: a template stands around what was
    asked.

    Short ones are left out.
    """
    paragraphs = (text.partition(":")[2] if text.partition(":")[0].isalpha() else text for text in prompt.split("\n\n"))
    return [
        text for text in (prompt, *prompt.split("\n\n"), *paragraphs) if len(" ".join(text.split())) >= _MIN_LETTERS
    ]
