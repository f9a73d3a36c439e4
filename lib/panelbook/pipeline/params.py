"""Typed parameters: what every stage may be asked to vary.

One frozen dataclass per stage is the single source of names, types, defaults and help. The
`parameters` cell of each notebook is the rendering of its dataclass (a test holds the two equal),
`params/*.yml` gives the values of each named group, and nothing starts a kernel before both the
names and the types have been checked: papermill itself lets an unknown name pass with a log line.
"""

import csv
import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from panelbook.errors import BookError
from panelbook.measure.resampling import Resampling
from panelbook.project import DEFAULT_PROFILE, Project

MINIATURE_RECORD = "lib/panelbook/engine/abacus/training.json"

BENCHMARKS = ("aime", "math500_s50", "math500_l5", "olympiad", "arithmetic")
ARMS = ("panel", "thinking", "think", "no_panel", "instruct")
"""Names that the book knows, suggested on the command line; draws of one's own may have others."""

NO_PROFILES = ("appendix", "base", "claims", "live", "prices")
"""Files of `params/` that are no profiles: what every profile inherits, the tables of the book, and its variants."""

POINTLESS_FLOAT = re.compile(r"[-+]?\d+[eE][-+]?\d+")
"""1e-4 as everyone writes it; YAML 1.1 asks for 1.0e-4 and takes this for text."""


class ParamError(BookError, ValueError):
    """A parameter has an unknown name, a wrong type or a value out of range."""


def param(
    default: Any, help: str, *, within: str = "", choices: Sequence[str] = (), known: Sequence[str] = ()
) -> Any:
    """Declare a parameter: its default and one line of help, unit included.

    Parameters
    ----------
    within
        Interval that the value must lie in, as "[2, inf)" or "(0, 1]".
    choices
        The only values there are.
    known
        Values to suggest, where others may do as well.
    """
    metadata = {"help": help, "within": within, "choices": tuple(choices), "known": tuple(known)}
    return field(default=default, metadata=metadata)


def artefact(name: str, by_hand: str = "published_data/all") -> Any:
    """Declare a file that another stage writes.

    The runner fills in the path of the profile's own file; a profile that gives "" does without. The default
    is what a notebook opened by hand reads: the file of the run `by_hand` of the default profile.
    """
    metadata = {"help": f"{name}, from the project's root", "artefact": name}
    return field(default=f"runs/{DEFAULT_PROFILE}/{by_hand}/{name}", metadata=metadata)


def artefacts(name: str, by_hand: Sequence[str], *, optional: bool = False) -> Any:
    """Declare files of one name that several runs write, such as the rollouts of every arm; see `artefact`.

    With `optional` the list is empty where no stage of the study writes such a file.
    """
    metadata = {"help": f"every {name}, from the project's root", "artefact": name, "optional": optional}
    paths = [f"runs/{DEFAULT_PROFILE}/{run}/{name}" for run in by_hand]
    return field(default_factory=lambda: list(paths), metadata=metadata)


def param_list(default: Sequence[Any], help: str) -> Any:
    """Declare a parameter that is a list."""
    values = list(default)
    return field(default_factory=lambda: list(values), metadata={"help": help})


def input_file(default: str, help: str) -> Any:
    """Declare a file that no stage writes but that the result depends on; "" for none."""
    return field(default=default, metadata={"help": help, "input": True})


def default_of(f: "dataclasses.Field[Any]") -> Any:
    """Return the default of a parameter."""
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


@dataclass(frozen=True, kw_only=True)
class StageParams:
    """What every stage can be asked to vary.

    Raises
    ------
    ParamError
        If a value is out of range; the message names parameter, value and rule.
    """

    label: str = param("", "how the page names this group")
    study: str = param("published", "which study the rows belong to")
    seed: int = param(20260424, "seed of every random number in the chapter", within="[0, inf)")
    n_resamples: int = param(4000, "bootstrap resamples of problems", within="[100, inf)")
    confidence: float = param(0.95, "confidence level of every interval, as a fraction", within="(0, 1)")
    output_dir: str = param("runs/by-hand", "folder for its files, from the project's root")

    @property
    def needs_published(self) -> bool:
        """Whether the notebook reads the published study's files themselves."""
        return False

    def __post_init__(self) -> None:
        try:
            for declared in dataclasses.fields(self):
                _check_declared(declared, getattr(self, declared.name))
            self.check()
        except ValueError as error:
            raise ParamError(f"{type(self).__name__}: {error}") from None

    def check(self) -> None:
        """Check ranges and combinations; subclasses extend it."""
        self.resampling  # noqa: B018  its own constructor checks seed, resamples and confidence

    @property
    def resampling(self) -> Resampling:
        """How every interval of the chapter is made."""
        return Resampling(seed=self.seed, n_resamples=self.n_resamples, confidence=self.confidence)

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """Collect the parameters cell of a running notebook, checked; call it with `globals()`."""
        return cls(**check_values(cls, {f.name: namespace[f.name] for f in dataclasses.fields(cls)}))

    def table(self) -> Any:
        """Return the parameters as a table, name, value and meaning; paths and names of the run are left out."""
        import pandas as pd  # deferred: the command line reads parameters without pandas

        from panelbook.publish.results import show

        hidden = ("label", "study", "output_dir")
        shown = [f for f in dataclasses.fields(self) if f.name not in hidden and "artefact" not in f.metadata]
        rows = [(f.name, str(getattr(self, f.name)), f.metadata["help"]) for f in shown]
        return show(pd.DataFrame(rows, columns=["parameter", "value", "meaning"]), why="settings")


@dataclass(frozen=True, kw_only=True)
class PublishedDataParams(StageParams):
    """Stage `published_data`."""

    @property
    def needs_published(self) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True, kw_only=True)
class TwoArmParams(StageParams):
    """A chapter that compares two arms on one benchmark."""

    benchmark: str = param(
        "aime", "which problems: math500_s50, math500_l5, aime, olympiad or arithmetic", known=BENCHMARKS
    )
    first: str = param("panel", "the arm under study")
    second: str = param("thinking", "the arm it is compared with", known=ARMS)

    def check(self) -> None:
        """Check that the two arms differ."""
        super().check()
        if self.first == self.second:
            raise ValueError(f"first and second must be two arms; both are {self.first!r}. Name another arm.")


@dataclass(frozen=True, kw_only=True)
class DiversityParams(TwoArmParams):
    """Stage `diversity`."""

    spread: str = artefact("spread.parquet")
    window_chars: int = param(2000, "characters of each trace that were embedded")
    n_permutations: int = param(
        20000, "sign flips sampled where 2^problems are too many to list", within="[999, inf)"
    )


@dataclass(frozen=True, kw_only=True)
class PassAtKParams(TwoArmParams):
    """Stage `pass_at_k`."""

    counts: str = artefact("counts.parquet")
    k_max: int = param(0, "largest k; 0 takes every k that both arms' draws allow", within="[0, inf)")


@dataclass(frozen=True, kw_only=True)
class TokenEfficiencyParams(TwoArmParams):
    """Stage `token_efficiency`."""

    counts: str = artefact("counts.parquet")
    rollouts: list[str] = artefacts("rollouts.parquet", [], optional=True)


@dataclass(frozen=True, kw_only=True)
class TokenBucketsParams(TwoArmParams):
    """Stage `token_buckets`."""

    buckets: str = artefact("token_buckets.parquet")


@dataclass(frozen=True, kw_only=True)
class VarianceBandParams(TwoArmParams):
    """Stage `variance_band`."""

    counts: str = artefact("counts.parquet")
    group_size: int = param(8, "rollouts per problem in one RL group (G)", within="[2, inf)")


@dataclass(frozen=True, kw_only=True)
class HillClimbParams(StageParams):
    """Stage `hill_climb`."""

    heldout: str = artefact("heldout.parquet")
    training: str = artefact("training.parquet")
    pool: str = artefact("pool.parquet")
    benchmark: str = param("olympiad", "which held-out problems")
    arm: str = param("panel", "the arm that was trained")
    groups_per_step: int = param(8, "problems visited in one training step")
    window: int = param(
        10, "training steps in a rolling mean, and at each end of a change", within="[2, inf)"
    )
    step_from: int = param(0, "first held-out evaluation compared, as a training step")
    step_to: int = param(90, "last held-out evaluation compared, as a training step")

    def check(self) -> None:
        """Check the window and the two steps."""
        super().check()
        if self.step_from >= self.step_to:
            raise ValueError(f"step_from must come before step_to; got {self.step_from} and {self.step_to}.")


@dataclass(frozen=True, kw_only=True)
class LiveParams(StageParams):
    """What the stages of the live study share."""

    study: str = param("miniature", "which study the rows belong to")
    profile: str = field(
        default=DEFAULT_PROFILE, metadata={"help": "profile that the run belongs to", "profile": True}
    )

    @property
    def work(self) -> str:
        """Folder of shards and checkpoints: kept from run to run, so that a killed run goes on."""
        return f"runs/{self.profile}/work"


@dataclass(frozen=True, kw_only=True)
class BackboneParams(LiveParams):
    """Stage `backbone`."""

    weights: str = input_file(MINIATURE_RECORD, "record of the committed weights")
    retrain: bool = param(False, "pretrain from scratch even if the committed weights match")
    n_documents: int = param(4000, "worked solutions looked at for the statistics")


@dataclass(frozen=True, kw_only=True)
class ProblemsParams(LiveParams):
    """Stage `problems`."""

    benchmark: str = param("arithmetic", "arithmetic, olympiad_pool, or a benchmark of study/problems")
    level: str = param(
        "", "the one level that is kept (of word problems, digits of the largest number); empty keeps all"
    )
    n_per_level: int = param(16, "arithmetic: exercises of each family and level")
    n_heldout_per_source: int = param(12, "problems of each source that no training may see")
    n_train_per_source: int = param(0, "the most training problems of each source; 0 keeps all")
    threshold: float = param(
        0.7, "similarity of shingles from which two problems are near-duplicates", within="(0, 1]"
    )

    @property
    def needs_published(self) -> bool:
        """Whether the pool is the published one."""
        return self.benchmark == "olympiad_pool"

    def check(self) -> None:
        """Check numbers of problems and the threshold."""
        super().check()
        if self.n_per_level < 1 or self.n_heldout_per_source < 1 or self.n_train_per_source < 0:
            raise ValueError(
                "n_per_level and n_heldout_per_source must be at least 1, n_train_per_source at least 0; got "
                f"{self.n_per_level}, {self.n_heldout_per_source} and {self.n_train_per_source}."
            )


@dataclass(frozen=True, kw_only=True)
class EngineParams(LiveParams):
    """A stage that loads a model."""

    engine: str = param(
        "local",
        "local (transformers, in the kernel) or tinker (the Tinker service)",
        choices=("local", "tinker"),
    )
    model: str = param("abacus", "abacus (the miniature), a Hugging Face id or folder, or a Tinker model")
    weights: str = input_file(MINIATURE_RECORD, "record of the miniature's weights")


@dataclass(frozen=True, kw_only=True)
class WarmupParams(EngineParams):
    """Stage `warmup`."""

    problems: str = artefact("problems.parquet", "problems/arithmetic")
    arm: str = param("panel", "panel or think: whose frame", choices=("panel", "think"))
    train_seed: int = param(1, "seed of the adapter and of the choice of demonstrations")
    n_steps: int = param(30, "updates", within="[1, inf)")
    per_step: int = param(6, "demonstrations in an update", within="[1, inf)")
    learning_rate: float = param(3e-4, "of Adam", within="(0, inf)")
    rank: int = param(16, "of the LoRA adapter", within="[1, inf)")
    checkpoint_every: int = param(10, "updates between checkpoints", within="[1, inf)")


@dataclass(frozen=True, kw_only=True)
class ModelParams(EngineParams):
    """A stage that asks a model."""

    problems: str = artefact("problems.parquet", "problems/arithmetic")
    arm: str = param(
        "panel", "panel, think, no_panel or native", choices=("panel", "think", "no_panel", "native")
    )
    max_tokens: int = param(112, "limit on the length of a completion, in tokens", within="[1, inf)")
    temperature: float = param(1.0, "1.0 draws from the model's own distribution", within="[0, inf)")
    tag_coef: float = param(0.2, "weight of the tags in the reward")
    batch_size: int = param(256, "draws decoded side by side")
    n_calls: int = param(1, "engine calls under way at once; a service gains from several")
    budget_tokens: int = param(
        0,
        "most completion tokens of all rollouts, of a training, or of one evaluation; kept ones count; 0 for no limit",
        within="[0, inf)",
    )

    def check(self) -> None:
        """Check engine, arm and limits."""
        super().check()
        if min(self.max_tokens, self.batch_size, self.n_calls) < 1 or self.temperature < 0:
            raise ValueError(
                "max_tokens, batch_size and n_calls must be at least 1, temperature at least 0; got "
                f"{self.max_tokens}, {self.batch_size}, {self.n_calls} and {self.temperature}."
            )


@dataclass(frozen=True, kw_only=True)
class RolloutsParams(ModelParams):
    """Stage `rollouts`."""

    n_samples: int = param(16, "draws per problem", within="[2, inf)")
    checkpoint: str = input_file(
        "", "checkpoints.json of a training run to draw from; empty draws from the base"
    )


@dataclass(frozen=True, kw_only=True)
class RecordedParams(LiveParams):
    """Stage `recorded`."""

    record: str = input_file(
        "lib/panelbook/rollouts/records/smollm2/manifest.json", "manifest of the record that is read"
    )


@dataclass(frozen=True, kw_only=True)
class CountsParams(LiveParams):
    """Stage `counts`."""

    rollouts: list[str] = artefacts("rollouts.parquet", ["rollouts/panel", "rollouts/think"])


@dataclass(frozen=True, kw_only=True)
class TraceParams(LiveParams):
    """What the stages that embed traces share."""

    rollouts: list[str] = artefacts("rollouts.parquet", ["rollouts/panel", "rollouts/think"])
    encoder: str = param(
        "minilm", "minilm (from its Python package) or the hub id of a sentence encoder", known=("minilm",)
    )
    n_embedded: int = param(4, "draws of each problem that are embedded, the first ones", within="[2, inf)")
    window_chars: int = param(2000, "characters of each trace that are embedded", within="[1, inf)")
    turns: bool = param(
        True, "draws are made of labelled turns, as the miniature's are: measure without labels too"
    )


@dataclass(frozen=True, kw_only=True)
class EmbedParams(TraceParams):
    """Stage `embed`."""

    cluster_eps: float = param(0.25, "DBSCAN: largest cosine distance within a cluster")


@dataclass(frozen=True, kw_only=True)
class MapParams(TraceParams):
    """Stage `map`."""

    n_neighbours: int = param(
        3, "nearest and farthest draws of the same problem that are listed", within="[1, inf)"
    )


@dataclass(frozen=True, kw_only=True)
class GalleryParams(StageParams):
    """Stage `gallery`."""

    first_rater: str = input_file("params/ratings/first.csv", "verdicts of the first rater")
    last_box: str = input_file(
        "params/ratings/last_box.csv", "verdicts of the first rater where the last box alone counts"
    )
    second_rater: str = input_file("", "verdicts of a second rater, in the same form; empty for none")

    @property
    def needs_published(self) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True, kw_only=True)
class CasesParams(LiveParams):
    """Stage `cases`."""

    turns: bool = param(True, "draws are made of labelled turns, as the miniature's are: tell attempts apart")
    rollouts: list[str] = artefacts("rollouts.parquet", ["rollouts/panel", "rollouts/think"])
    problems: str = artefact("problems.parquet", "problems/arithmetic")
    first: str = param("panel", "the arm under study")
    second: str = param("think", "the arm it is compared with", known=ARMS)


@dataclass(frozen=True, kw_only=True)
class TrainParams(ModelParams):
    """Stage `train`."""

    bands: str = artefact("band_by_problem.csv", "variance_band/arithmetic")
    start: str = input_file("", "checkpoints.json of the run whose last checkpoint this one starts from")
    train_seed: int = param(1, "seed of adapter, visits and training draws")
    n_steps: int = param(60, "updates")
    groups_per_step: int = param(16, "problems visited in one update")
    group_size: int = param(8, "draws of a problem in one update (G)")
    learning_rate: float = param(1e-3, "of Adam")
    rank: int = param(8, "of the LoRA adapter")
    sampling: str = param(
        "proportional", "visits: round_robin over sources, or proportional to their problems"
    )
    drop_constant_groups: bool = param(True, "leave groups of equal rewards out of the update")
    checkpoint_every: int = param(15, "updates between checkpoints")
    objective_k: int = param(1, "k of the pass@k that is trained for, below group_size; 1 is the mean reward")
    max_extra_groups: int = param(
        0, "dynamic sampling: further problems an update may visit for groups that differ; 0 for none"
    )
    kl_draws: int = param(32, "draws per update on which the divergence from the start is estimated")
    n_heldout_samples: int = param(8, "draws per held-out problem and checkpoint")
    encoder: str = param("minilm", "encoder of the spread before and after")
    n_embedded: int = param(
        4, "draws per held-out problem embedded at the first and last checkpoint; 0 for none"
    )

    def check(self) -> None:
        """Check steps, groups and rates."""
        super().check()
        if self.n_steps < 2 or min(self.groups_per_step, self.checkpoint_every, self.n_heldout_samples) < 1:
            raise ValueError(
                "n_steps must be at least 2, groups_per_step, checkpoint_every and n_heldout_samples at least 1; got "
                f"{self.n_steps}, {self.groups_per_step}, {self.checkpoint_every} and {self.n_heldout_samples}."
            )
        if self.group_size < 2 or self.learning_rate <= 0 or self.rank < 1 or self.kl_draws < 0:
            raise ValueError(
                "group_size must be at least 2, learning_rate above 0, rank at least 1, kl_draws at least 0; got "
                f"{self.group_size}, {self.learning_rate}, {self.rank} and {self.kl_draws}."
            )
        if not 1 <= self.objective_k < self.group_size or self.max_extra_groups < 0:
            raise ValueError(
                "objective_k must lie between 1 and group_size - 1, max_extra_groups be at least 0; got "
                f"{self.objective_k}, {self.group_size} and {self.max_extra_groups}."
            )
        if self.sampling not in ("round_robin", "proportional"):
            raise ValueError(f"sampling must be round_robin or proportional; got {self.sampling!r}.")


@dataclass(frozen=True, kw_only=True)
class MatchedClimbParams(LiveParams):
    """Stage `matched_climb`."""

    heldout: list[str] = artefacts("heldout.parquet", ["train/panel_1", "train/think_1"])
    metrics: list[str] = artefacts("metrics.parquet", ["train/panel_1", "train/think_1"])
    first: str = param("panel", "the arm under study")
    second: str = param("think", "the arm it is compared with", known=ARMS)
    k: int = param(8, "draws of the pass@k beside pass@1")


@dataclass(frozen=True, kw_only=True)
class MultiverseParams(TwoArmParams):
    """Stage `multiverse`."""

    rollouts: list[str] = artefacts("rollouts.parquet", ["rollouts/panel", "rollouts/think"])
    heldout: list[str] = artefacts("heldout.parquet", ["train/panel_1", "train/think_1"], optional=True)
    encoders: list[str] = param_list(
        ["minilm", "words", "letters"], "encoders compared: minilm or a hub id, words, letters"
    )
    n_problems: int = param(30, "problems entering the multiverse, spread evenly over sources")
    n_embedded: int = param(4, "draws of each problem entering it, the first ones")
    window_chars: int = param(40, "characters of the head, middle and tail windows")
    turns: bool = param(
        True, "draws are made of labelled turns, as the miniature's are: take the labels off too"
    )

    def check(self) -> None:
        """Check encoders and sizes."""
        super().check()
        if not self.encoders or len(set(self.encoders)) < len(self.encoders):
            raise ValueError(f"encoders needs one name or more, each once; got {self.encoders}.")
        if self.n_problems < 2 or self.n_embedded < 2 or self.window_chars < 1:
            raise ValueError(
                "n_problems and n_embedded must be at least 2, window_chars at least 1; got "
                f"{self.n_problems}, {self.n_embedded} and {self.window_chars}."
            )


@dataclass(frozen=True, kw_only=True)
class ReliabilityParams(TwoArmParams):
    """Stage `reliability`."""

    counts: str = artefact("counts.parquet")
    rollouts: list[str] = artefacts("rollouts.parquet", [], optional=True)
    tau: float = param(0.5, "G-pass@k: share of the k draws that must be right", within="(0, 1]")
    n_posterior: int = param(4000, "draws from the posterior of the hierarchical model", within="[100, inf)")


@dataclass(frozen=True, kw_only=True)
class ClosureParams(TwoArmParams):
    """Stage `closure`."""

    counts: str = artefact("counts.parquet")
    k_max: int = param(0, "largest k; 0 takes every k that both arms' draws allow", within="[0, inf)")
    n_null: int = param(2000, "simulated null data sets", within="[100, inf)")


@dataclass(frozen=True, kw_only=True)
class HardProblemsParams(TwoArmParams):
    """Stage `hard_problems`."""

    counts: str = artefact("counts.parquet")
    n_null: int = param(2000, "simulated null data sets", within="[100, inf)")


@dataclass(frozen=True, kw_only=True)
class BudgetParams(TwoArmParams):
    """Stage `budget`."""

    counts: str = artefact("counts.parquet")
    rollouts: list[str] = artefacts("rollouts.parquet", [], optional=True)
    prices: str = input_file(
        "params/prices.yml", "price per million tokens, prompt and completion, of each model"
    )
    priced_as: str = param("Qwen3-30B-A3B", "model whose row of the price table is taken")
    coverage: float = param(
        0.5, "share of problems to be solved, for the tokens to reach it", within="(0, 1]"
    )


@dataclass(frozen=True, kw_only=True)
class SignalParams(TwoArmParams):
    """Stage `signal`."""

    counts: str = artefact("counts.parquet")
    rollouts: list[str] = artefacts("rollouts.parquet", [], optional=True)
    visits: list[str] = artefacts("visits.csv", [], optional=True)
    pool: list[str] = artefacts("pool.parquet", [], optional=True)
    training: list[str] = artefacts("training.parquet", [], optional=True)
    group_size: int = param(8, "rollouts per problem in one RL group (G)", within="[2, inf)")
    tag_coef: float = param(0.2, "weight of the tags in the reward")
    groups_per_step: int = param(8, "training of the pool: problems visited in one step")
    training_group_size: int = param(16, "training of the pool: rollouts per problem in one step")
    most_visits: int = param(20, "visits of one problem in a training run above which it is flagged")

    def check(self) -> None:
        """Check group sizes and numbers of visits."""
        super().check()
        if min(self.group_size, self.training_group_size) < 2:
            raise ValueError(
                "group_size and training_group_size must be at least 2, or no draw has an advantage; got "
                f"{self.group_size} and {self.training_group_size}."
            )
        if self.groups_per_step < 1 or self.most_visits < 1:
            raise ValueError(
                "groups_per_step and most_visits must be at least 1; got "
                f"{self.groups_per_step} and {self.most_visits}."
            )


@dataclass(frozen=True, kw_only=True)
class ObjectivesParams(LiveParams):
    """Stage `objectives`."""

    heldout: list[str] = artefacts(
        "heldout.parquet", ["train/panel_1", "train/panel_passk", "train/panel_dynamic"]
    )
    metrics: list[str] = artefacts(
        "metrics.parquet", ["train/panel_1", "train/panel_passk", "train/panel_dynamic"]
    )
    names: list[str] = param_list(
        ["mean reward", "pass@4", "dynamic sampling"],
        "what each run was trained for, in the order of the files; the first is the one compared with",
    )
    k: int = param(8, "draws of the pass@k beside pass@1")

    def check(self) -> None:
        """Check that every run has one name, and there are two runs or more."""
        super().check()
        if not len(self.names) == len(self.heldout) == len(self.metrics) or len(self.names) < 2:
            raise ValueError(
                "names, heldout and metrics must be equally long, two runs or more; got "
                f"{len(self.names)}, {len(self.heldout)} and {len(self.metrics)}."
            )
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"every run needs a name of its own; got {self.names}.")


@dataclass(frozen=True, kw_only=True)
class PowerParams(StageParams):
    """Stage `power`."""

    counts: str = artefact("counts.parquet")
    spread: str = artefact("spread.parquet")
    heldout: str = artefact("heldout.parquet")
    ledger: str = input_file("params/claims.yml", "the claims with their figures as printed")
    first: str = param("panel", "the arm under study")
    second: str = param("thinking", "the arm it is compared with", known=ARMS)
    power: float = param(0.8, "chance to see an effect that is there")
    plan_effect: float = param(0.05, "difference that the plan of a new study wants to see")
    step_from: int = param(0, "first held-out evaluation compared, as a training step")
    step_to: int = param(90, "last held-out evaluation compared, as a training step")
    n_simulations: int = param(2000, "simulated studies for each design")

    def check(self) -> None:
        """Check the wanted power and the number of simulations."""
        super().check()
        if not 0.05 < self.power < 1 or self.n_simulations < 100:
            raise ValueError(
                "power must lie between 0.05 and 1 and n_simulations be at least 100; got "
                f"{self.power} and {self.n_simulations}."
            )


@dataclass(frozen=True, kw_only=True)
class CoverageParams(StageParams):
    """Stage `coverage`."""

    counts: str = artefact("counts.parquet")
    first: str = param("panel", "the arm whose success rates the first simulated arm has")
    second: str = param("thinking", "the same of the second")
    benchmarks: list[str] = param_list(
        ["aime", "math500_s50"], "benchmarks that the simulated worlds resemble"
    )
    sizes: list[int] = param_list([20, 50, 134, 400], "numbers of problems of the simulated studies")
    n_draws: int = param(8, "draws of each problem: the largest k and the group size")
    n_simulations: int = param(400, "simulated studies for each world and size")
    n_resamples: int = param(400, "bootstrap resamples of problems in each simulated study")

    def check(self) -> None:
        """Check worlds, sizes and draws."""
        super().check()
        if not self.benchmarks or not self.sizes or min(self.sizes) < 5 or self.n_draws < 2:
            raise ValueError(
                "benchmarks and sizes must not be empty, sizes at least 5 and n_draws at least 2; got "
                f"{self.benchmarks}, {self.sizes} and {self.n_draws}."
            )
        if self.n_simulations < 20:
            raise ValueError(f"n_simulations must be at least 20; got {self.n_simulations}.")


@dataclass(frozen=True, kw_only=True)
class ClaimsParams(StageParams):
    """Stage `claims`."""

    ledger: str = input_file("params/claims.yml", "the claims, their figures and the rules that judge them")
    lock: str = input_file("params/claims.lock.json", "verdicts and values of the last accepted trial")
    chapters: list[str] = artefacts("results.json", [])

    @property
    def needs_published(self) -> bool:
        """Return True."""
        return True


def _check_declared(declared: "dataclasses.Field[Any]", value: Any) -> None:
    """Raise ValueError if a value is outside what its parameter declares; wrong types are left to `check_values`."""
    name, choices, within = (declared.name, declared.metadata.get("choices"), declared.metadata.get("within"))
    if choices and value not in choices:
        raise ValueError(f"{name} must be {spell_choices(choices)}; got {value!r}.")
    if within and isinstance(value, int | float) and not _lies_within(value, within):
        raise ValueError(f"{name} must be {spell_range(within)}; got {value}.")


def _lies_within(value: float, within: str) -> bool:
    low, high = (float(end) for end in within[1:-1].split(","))
    above = value >= low if within[0] == "[" else value > low
    return above and (value <= high if within[-1] == "]" else value < high)


def spell_range(within: str) -> str:
    """Say in words what an interval such as "[2, inf)" or "(0, 1]" asks of a value."""
    low, high = (end.strip() for end in within[1:-1].split(","))
    if high == "inf":
        return f"at least {low}" if within[0] == "[" else f"above {low}"
    return f"in {within}"


def spell_choices(choices: Sequence[str]) -> str:
    """Join the values of a choice as a sentence does."""
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def check_values(cls: type[StageParams], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check names and types of `values` against the dataclass `cls`.

    Returns
    -------
    dict
        The same values, whole numbers turned into floats where the field is a float.

    Raises
    ------
    ParamError
        Naming the parameter and, for a wrong name, the nearest spelling; for a wrong type, the value
        and the type expected.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in names:
            raise ParamError(f"{cls.__name__} has no parameter {name!r}.{nearest(name, names)}")
        if hints[name] is float and isinstance(value, str) and POINTLESS_FLOAT.fullmatch(value):
            value = float(value)
        try:
            checked[name] = TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError:
            raise ParamError(
                f"{cls.__name__}: {name} must be {spell_type(hints[name])}; got {value!r} ({type(value).__name__})."
            ) from None
    return checked


def parse_assignments(cls: type[StageParams], assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Read `name=value` and `name=value,value` of a command line as the types that `cls` declares.

    Commas separate the values of a sweep. A text that holds one stands in double quotes: `label="a, b"`. A list is
    written in brackets, and several lists with semicolons: `sizes=[20,50];[134]`.

    Returns
    -------
    dict
        Name -> its values in their order, each once.

    Raises
    ------
    ParamError
        If an assignment has no `=`, a name comes twice, a quote is left open, or as `check_values` does.
    """
    hints = get_type_hints(cls)
    values: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParamError(f"-p takes name=value; got {assignment!r}. For example: -p k_max=8")
        if name in values:
            raise ParamError(f"{name} is given twice. To try several values: -p {name}=A,B")
        hint = hints.get(name)
        parsed = [_parse_value(part, hint) for part in _split_values(name, text, hint)]
        checked = [check_values(cls, {name: value})[name] for value in parsed]
        values[name] = [value for i, value in enumerate(checked) if value not in checked[:i]]
    return values


def _split_values(name: str, text: str, hint: Any) -> list[str]:
    """Split the values of a sweep; see `parse_assignments`."""
    if get_origin(hint) is list:
        return re.split(r"(?<=\])\s*;\s*(?=\[)", text)
    if "," not in text and not text.startswith('"'):
        return [text]
    try:
        (parts,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise ParamError(
            f'{name}={text}: {error}. Commas separate values; a text that holds one is written {name}="a, b".'
        ) from None
    if any(re.fullmatch(r"0\d+", part) for part in parts[1:]) and hint in (int, float):
        raise ParamError(f"{name}={text}: commas separate values; write a thousand as 1000.")
    return parts


def _parse_value(text: str, hint: Any) -> Any:
    """Read one value; a string parameter takes the text as it stands: 007 stays 007, yes stays yes."""
    try:
        return text if hint is str else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def render_parameters_cell(cls: type[StageParams], values: Mapping[str, Any] | None = None) -> str:
    """Render the `parameters` cell of a notebook: one annotated assignment a line, help as a comment."""
    hints = get_type_hints(cls)
    values = values or {}
    return "\n".join(
        f"{f.name}: {spell_type(hints[f.name])} = {_literal(values.get(f.name, default_of(f)))}  # {f.metadata['help']}"
        for f in dataclasses.fields(cls)
    )


@dataclass(frozen=True)
class Profile:
    """One file of `params/`, with everything it inherits.

    Attributes
    ----------
    name
        File name without `.yml`.
    defaults
        Values for every stage that has a parameter of that name.
    stages
        Stage name -> group name -> values.
    """

    name: str
    defaults: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Mapping[str, Any]]]


def load_profile(project: Project, name: str) -> Profile:
    """Read a profile and what it inherits; later files win, a group set to null is removed.

    Raises
    ------
    ParamError
        If the file or one it inherits is missing, is no YAML mapping or holds something else where a mapping
        belongs, holds a key of an unknown name, or names a group with more than letters, digits and underscores.
    """
    data = _read_inherited(project, name, seen=())
    where = f"params/{name}.yml"
    stages: dict[str, dict[str, Mapping[str, Any]]] = {}
    for stage, groups in _mapping(data.get("stages"), f"{where}: stages").items():
        stages[stage] = {}
        for group, values in _mapping(groups, f"{where}: {stage}").items():
            if not re.fullmatch(r"\w+", str(group)):
                raise ParamError(
                    f"{where}: {stage} has a group {group!r}. It names a folder and a page: use letters, digits and _."
                )
            if values is not None:
                stages[stage][str(group)] = _mapping(values, f"{where}: {stage}.{group}")
    return Profile(name, _mapping(data.get("defaults"), f"{where}: defaults"), stages)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return what stands at `where`, checked; nothing at all counts as an empty mapping."""
    if value is not None and not isinstance(value, Mapping):
        raise ParamError(f"{where} must be a mapping of names to values; got {value!r}.")
    return value or {}


def _read_inherited(project: Project, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    path = project.params / f"{name}.yml"
    if name in seen:
        raise ParamError(f"params/{name}.yml inherits from itself: {' -> '.join((*seen, name))}.")
    if not path.is_file():
        known = sorted(p.stem for p in project.params.glob("*.yml") if p.stem not in NO_PROFILES)
        raise ParamError(f"There is no profile {name!r} (params/{name}.yml).{nearest(name, known)}")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ParamError(f"params/{name}.yml is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ParamError(f"params/{name}.yml must be a mapping; it is a {type(data).__name__}.")
    known = ["inherits", "defaults", "stages"]
    for key in data:
        if key not in known:
            raise ParamError(f"params/{name}.yml: unknown key {key!r}.{nearest(str(key), known)}")
    parent = data.pop("inherits", None if name == "base" else "base")
    return _merge(_read_inherited(project, parent, (*seen, name)), data) if parent else data


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, key by key down to the leaves."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest spelling among `known`, or lists them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."


def spell_type(hint: Any) -> str:
    """Spell a type as a reader writes it."""
    return (
        hint.__name__
        if isinstance(hint, type) and not getattr(hint, "__args__", None)
        else str(hint).replace("typing.", "")
    )


def _literal(value: Any) -> str:
    """Write a value as Python source, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)
