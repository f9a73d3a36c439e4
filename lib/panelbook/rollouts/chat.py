"""One question at a time: any arm of any engine, asked from a terminal or a script.

A `Chat` is a model with its weights. It puts a question as the study does, takes the draws token by token where the
engine can hand them out, and returns them as rows of the rollouts table, so that what was asked by hand is read by
the same tools as a whole run. The draws of a question are seeded as everywhere, by a hash of their name: the same
question and seed give the same draws, and asking again goes on with the next ones.

A row that nobody graded, because no gold answer was given, has neither status nor reward.

What is *not* handled: conversations. Every question stands alone, as it does in the study.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from panelbook.engine.base import Request, SampledSequence, SamplingClient, StreamingClient, UnderWay
from panelbook.errors import BookError
from panelbook.rollouts.ask import make_request
from panelbook.rollouts.draw import Draw, DrawParams, derive_seed, grade_answers, make_record, read_answer
from panelbook.rollouts.logbook import read_checkpoints_file
from panelbook.rollouts.setting import Setting
from panelbook.rollouts.store import Record
from panelbook.study.arithmetic import MINIATURE_ARMS
from panelbook.study.arms import ARMS, ChatTokenizer
from panelbook.study.grading import Grader, unwrap
from panelbook.study.problems import Problem, canonicalise_gold
from panelbook.study.vocabulary import ArmName

STUDY = "chat"
"""Study, benchmark and source of every row."""

EXAMPLES = (
    "34 + 29 = ?",
    "81 - 47 = ?",
    "7 * 8 = ?",
    "58 mod 6 = ?",
    "Mia has 12 figs and buys 3 bags of 5 . How many figs ?",
)
"""Questions that the miniature was brought up on."""

_ADAPTER = "adapter_model.safetensors"


class ChatError(BookError):
    """A question cannot be asked; the message says what to change."""


@dataclass(frozen=True)
class Weights:
    """What is drawn from: `path` is for `create_sampling_client`, None for the base model."""

    name: str = "base"
    step: int = 0
    path: str | None = None


@dataclass(frozen=True)
class Options:
    """How a question is put.

    Parameters
    ----------
    arms
        Each answers every question.
    max_tokens, temperature
        As in `panelbook.rollouts.draw.DrawParams`.
    seed
        The seeds of draws derive from it.
    n_draws
        Of each arm.
    """

    arms: tuple[ArmName, ...]
    max_tokens: int
    temperature: float = 1.0
    seed: int = 0
    n_draws: int = 1

    def __post_init__(self) -> None:
        known = get_args(ArmName)
        for arm in self.arms:
            if arm not in known:
                raise ChatError(f"there is no arm {arm!r}; there are {', '.join(known)}.")
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ChatError(f"name one arm or several different ones; got {', '.join(self.arms) or 'none'}.")
        if self.max_tokens < 1 or self.n_draws < 1 or not 0 <= self.temperature < float("inf"):
            raise ChatError(
                "the limit of tokens and the number of draws must be 1 or more, the temperature 0 or more; got "
                f"{self.max_tokens}, {self.n_draws} and {self.temperature}."
            )


@dataclass(frozen=True)
class Glimpse:
    """A draw under way: what there is of its text."""

    arm: ArmName
    sample_id: int
    n_tokens: int
    text: str
    ended: bool


Look = Callable[[], list[Glimpse]]
"""Decodes the draws under way; nothing is decoded that nobody looks at."""


class Chat:
    """A model that answers questions; made by `open_chat`.

    Parameters
    ----------
    client
        Weights to draw from.
    setting, weights, profile
        What they are, for the rows.
    grader
        Marks answers where a gold answer is known.
    """

    def __init__(
        self, client: SamplingClient, setting: Setting, weights: Weights, profile: str, grader: Grader
    ) -> None:
        self.client = client
        self.setting = setting
        self.weights = weights
        self.profile = profile
        self._grader = grader
        self._n_drawn: Counter[tuple[str, ...]] = Counter()

    @property
    def streams(self) -> bool:
        """Whether draws can be watched as they grow."""
        return isinstance(self.client, StreamingClient)

    @property
    def _is_miniature(self) -> bool:
        return self.setting.is_miniature

    def go_on_from(self, records: Sequence[Record]) -> None:
        """Take over the numbering of a transcript, in which no draw may come twice."""
        for record in records:
            try:
                key = tuple(str(record[name]) for name in ("run_id", "arm", "checkpoint", "problem_id"))
                self._n_drawn[key] = max(self._n_drawn[key], int(record["sample_id"]) + 1)
            except (KeyError, TypeError, ValueError):
                continue  # a line of another origin: it has no draw of ours

    def ask(
        self,
        question: str,
        options: Options,
        gold: str | None = None,
        on_token: Callable[[Look], None] = lambda look: None,
    ) -> list[Record]:
        """Return the draws of every arm, arm by arm, as rows of the rollouts table with `question` and `gold`.

        Parameters
        ----------
        question
            Its text, put into the arm's frame as it is; on the miniature, words and signs are set apart first.
        options
            Arms and how they draw.
        gold
            The right answer, if the draws are to be graded.
        on_token
            Called after every token with a function that returns the draws under way; only where `streams`.

        Raises
        ------
        ChatError
            If the question is empty, too long, or beyond the miniature; the gold answer is blank; or the engine fails.
        """
        problem = self._problem(question, gold)
        if strange := [arm for arm in options.arms if self._is_miniature and arm not in MINIATURE_ARMS]:
            raise ChatError(
                f"the miniature knows the arms {', '.join(MINIATURE_ARMS)}, and no {strange[0]}; ask one of these, "
                "or a larger model, as --profile hf."
            )
        params = [self._params(arm, options) for arm in options.arms]
        draws: list[tuple[DrawParams, Draw, list[int]]] = []
        for one in params:
            prompt = self._prompt(problem, one.arm)
            done = self._n_drawn[_key(one, problem)]
            for sample_id in range(done, done + options.n_draws):
                seed = derive_seed(one.seed, problem.problem_id, one.arm, one.checkpoint, sample_id)
                draws.append((one, Draw(problem, sample_id, seed), prompt))
        requests = [make_request(draw, prompt, one) for one, draw, prompt in draws]
        tokenizer = self.client.get_tokenizer()
        answers = []
        for start in range(0, len(draws), self.setting.batch_size):
            batch = draws[start : start + self.setting.batch_size]

            def look(
                rows: Sequence[UnderWay], batch: Sequence[tuple[DrawParams, Draw, list[int]]] = batch
            ) -> list[Glimpse]:
                return [
                    Glimpse(
                        one.arm,
                        draw.sample_id,
                        len(row.tokens),
                        tokenizer.decode(row.tokens),
                        row.stop_reason is not None,
                    )
                    for (one, draw, _), row in zip(batch, rows, strict=True)
                ]

            drawn = self._draw(
                requests[start : start + len(batch)], lambda rows: on_token(lambda: look(rows))
            )
            answers += [
                read_answer(draw, sequence, prompt, one.arm, tokenizer)
                for (one, draw, prompt), sequence in zip(batch, drawn, strict=True)
            ]
        records: list[Record] = []
        for (one, _, _), answer in zip(draws, answers, strict=True):
            if gold is not None:
                (record,) = grade_answers([answer], one, self._grader)
            else:
                said = ARMS[one.arm].parse(answer.completion)
                record = make_record(answer, one, said, unwrap(said.answer or "") or None, None)
            records.append({**record, "question": problem.question, "gold": problem.gold or None})
        for one in params:
            self._n_drawn[_key(one, problem)] += options.n_draws
        return records

    def _problem(self, question: str, gold: str | None) -> Problem:
        """Return the question as a problem, checked."""
        if not question.strip():
            raise ChatError("the question is empty.")
        if self._is_miniature:
            question = space_out(question)
        try:
            question.encode()
        except UnicodeEncodeError:
            raise ChatError("the question is no text: it holds bytes that are not UTF-8.") from None
        right, answer_type = canonicalise_gold(gold) if gold is not None else ("", "latex")
        if gold is not None and not right:
            raise ChatError(
                f"the gold answer is blank ({gold!r}); leave it out, and the draws are not graded."
            )
        digest = hashlib.sha256(question.encode()).hexdigest()[:10]
        return Problem(f"chat-{digest}", STUDY, STUDY, question, right, answer_type)

    def _params(self, arm: ArmName, options: Options) -> DrawParams:
        settings = {
            "seed": options.seed,
            "max_tokens": options.max_tokens,
            "temperature": options.temperature,
            "sampler": self.weights.path,
        }
        return DrawParams(
            study=STUDY,
            profile=self.profile,
            run_id=self.setting.name_run(arm, [], **settings),
            arm=arm,
            checkpoint=self.weights.name,
            step=self.weights.step,
            seed=options.seed,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
        )

    def _prompt(self, problem: Problem, arm: ArmName) -> list[int]:
        """Return the prompt in tokens; it does not depend on whether the gold answer is known."""
        tokenizer = self.client.get_tokenizer()
        render = self.setting.render(arm)
        if render is not None:
            check_words(problem.question, tokenizer.encode)
            return list(tokenizer.encode(render(problem)))
        try:
            text = ARMS[arm].prompt(problem.question, tokenizer=cast(ChatTokenizer, tokenizer))
        except Exception as error:  # a template is a program of its own
            raise ChatError(f"arm {arm!r}: the chat template of this model fails: {_brief(error)}") from error
        return list(tokenizer.encode(text))

    def _draw(
        self, requests: Sequence[Request], on_rows: Callable[[Sequence[UnderWay]], None]
    ) -> list[SampledSequence]:
        """Draw all requests; every failure that is not a defect of this project becomes a message."""
        client = self.client
        try:
            if isinstance(client, StreamingClient):
                rows: Sequence[UnderWay] = ()
                for rows in client.stream(requests):
                    on_rows(rows)
                return [cast(SampledSequence, row) for row in rows]
            found = {index: future.result().sequences[0] for index, future in client.sample_many(requests)}
            return [found[index] for index in range(len(requests))]
        except Exception as error:
            raise ChatError(f"the engine does not answer: {_brief(error)}") from error


def open_chat(setting: Setting, weights: Weights, profile: str, scratch: Path, grader: Grader) -> Chat:
    """Load the model, or connect to the service.

    Parameters
    ----------
    scratch
        Where the local engine would save weights; nothing is saved here.

    Raises
    ------
    ChatError
        If the model is not to be had, the service has no key, or the saved weights do not fit the model.
    """
    looks_like_folder = "/" in setting.model and setting.model.count("/") != 1
    if setting.engine == "local" and looks_like_folder and not Path(setting.model).is_dir():
        raise ChatError(f"there is no folder {setting.model}; give the folder of a model, or its hub id.")
    try:
        client = setting.open(scratch).create_sampling_client(weights.path)
    except Exception as error:
        where = f" with the weights {weights.path}" if weights.path else ""
        raise ChatError(f"model {setting.model!r}{where} cannot be opened: {_brief(error)}") from error
    return Chat(client, setting, weights, profile, grader)


def find_weights(name: str, root: Path, runs: Path) -> Weights:
    """Find saved weights by the name that a reader has for them.

    Parameters
    ----------
    name
        A training run and its step, ``train.panel_1@60`` or ``panel_1@60``, without step its last checkpoint; a
        folder with an adapter; a file checkpoints.json, also with ``@60``; or a path of the Tinker service. Empty
        for the base model.
    root, runs
        The project, and the profile's folder of artefacts.

    Raises
    ------
    ChatError
        If there is nothing of that name; the message lists what there is.
    """
    if not name:
        return Weights()
    if name.startswith("tinker://"):
        return Weights(name.rsplit("/", 1)[-1], _step(name), name)
    folder = root / name
    if (folder / _ADAPTER).is_file():
        return Weights(folder.name, _step(folder.name), str(folder))
    stem, at, step = name.partition("@")
    file = root / stem
    if not file.is_file():
        file = runs / "train" / stem.removeprefix("train.") / "checkpoints.json"
    if not file.is_file():
        known = sorted(path.parent.name for path in runs.glob("train/*/checkpoints.json"))
        there = f"training runs there are: {', '.join(known)}" if known else "no training run is there yet"
        raise ChatError(
            f"no weights {name!r}: it is neither a folder with {_ADAPTER} nor a training run; {there}. "
            "For example: --checkpoint train.panel_1@60"
        )
    saved = read_checkpoints_file(file)
    chosen = [one for one in saved if step in (str(one.step), one.name)] if at else saved[-1:]
    if not chosen:
        raise ChatError(
            f"{stem} has no checkpoint {step!r}; its steps are {', '.join(str(one.step) for one in saved)}."
        )
    path = chosen[0].sampler_path
    label = (
        f"{stem.removeprefix('train.')}@{chosen[0].step}"
        if file.parent.parent == runs / "train"
        else chosen[0].name
    )
    return Weights(label, chosen[0].step, path if path.startswith("tinker://") else str(root / path))


def space_out(question: str) -> str:
    """Set words, numbers and signs apart, as the miniature was taught to read them.

    Examples
    --------
    >>> space_out("34+29=?"), space_out("How many figs?")
    ('34 + 29 = ?', 'How many figs ?')
    """
    return " ".join(re.findall(r"\d+|[^\W\d]+|[^\w\s]", question))


def check_words(question: str, encode: Callable[[str], list[int]]) -> None:
    """Complain where the miniature does not know a word, and say what it knows.

    Raises
    ------
    ChatError
        If one of the words becomes the unknown token.
    """
    (unknown,) = encode("\N{SNOWMAN}")
    strange = [word for word in dict.fromkeys(question.split()) if unknown in encode(word)]
    if strange:
        raise ChatError(
            f"the miniature does not know {', '.join(map(repr, strange[:5]))}"
            f"{' and more' if len(strange) > 5 else ''}. It does small arithmetic only, in digits, + - * = ? mod, and "
            "one kind of story. Ask it, for example:\n"
            + "\n".join(f"  {example}" for example in EXAMPLES)
            + f"\nIts arms are {', '.join(MINIATURE_ARMS)}. Other questions need a larger model, as --profile hf."
        )


def _key(params: DrawParams, problem: Problem) -> tuple[str, ...]:
    return (params.run_id, params.arm, params.checkpoint, problem.problem_id)


def _step(name: str) -> int:
    """Return the number at the end of a checkpoint's name, 0 if it has none."""
    found = re.search(r"(\d{1,9})$", name)
    return int(found[1]) if found else 0


def _brief(error: BaseException) -> str:
    """Return what went wrong in one line, without the key of the service."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = re.sub(r"^request \d+: ", "", lines[0]) if lines else type(error).__name__
    key = os.environ.get("TINKER_API_KEY")
    return (said.replace(key, "(key)") if key else said)[:500]
