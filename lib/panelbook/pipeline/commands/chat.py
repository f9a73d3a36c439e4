"""`panelbook chat`: one question at a time, to any arm of any engine."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from panelbook.errors import BookError
from panelbook.pipeline.commands.terminal import ProfileOption, console, errors
from panelbook.project import DEFAULT_PROFILE, Project

if TYPE_CHECKING:  # loading these takes seconds, and `--help` needs none
    from panelbook.pipeline.params import ModelParams
    from panelbook.rollouts.chat import Chat, Options
    from panelbook.rollouts.store import Shard

CHAT_HELP = """Ask any arm of any engine, one question at a time.

With a QUESTION the answer is printed and the command ends; [bold]-[/bold] reads the question from standard input. \
Without one, questions are asked for: [bold]/help[/bold] lists what else can be typed there, Ctrl-C cancels a draw, \
Ctrl-D ends.

Draws are seeded by question, arm and [bold]--seed[/bold]: the same command gives the same answer. With \
[bold]--transcript[/bold] they are appended to a file in the form of the book's rollouts, numbered on from those there.

[bold]Examples[/bold]

Both arms side by side, graded:

  panelbook chat "34 + 29 = ?" --arm panel --arm think --gold 63

Four draws of a checkpoint of a training run:

  panelbook chat "34 + 29 = ?" --checkpoint train.panel_1@60 -n 4

Any causal language model; what was asked is kept, and read like any other rollouts:

  panelbook chat --profile hf --model ./my-model --max-tokens 512 --transcript asked.jsonl

  panelbook explore asked.jsonl
"""

HELP = """/arm NAME...   who answers: panel, think, no_panel, native; two stand side by side
/gold ANSWER   the right answer to the next question, which is then graded
/n N           draws of each arm
/seed N        another seed, other draws
/max N         the most tokens of a draw
/temp X        temperature; 0 takes the likeliest token
/quit          ends, as Ctrl-D does; Ctrl-C cancels a draw"""

NUMBERS: dict[str, tuple[str, Callable[[str], float]]] = {
    "/n": ("n_draws", int),
    "/seed": ("seed", int),
    "/max": ("max_tokens", int),
    "/temp": ("temperature", float),
}
"""What is typed -> the option that it changes."""


def chat(
    question: Annotated[str | None, typer.Argument(help="What to ask; - reads it from stdin.")] = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="panel, think, no_panel or native; repeat for several.")
    ] = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    engine: Annotated[str, typer.Option(help="local or tinker; by default the profile's.")] = "",
    model: Annotated[
        str,
        typer.Option(
            help="abacus, a Hugging Face id or folder, or a Tinker model; by default the profile's."
        ),
    ] = "",
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            "--adapter",
            help="Saved weights: train.panel_1@60, the folder of an adapter, or tinker://...",
        ),
    ] = "",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Of a draw; by default the profile's.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    n_draws: Annotated[int, typer.Option("-n", help="Draws of each arm.")] = 1,
    gold: Annotated[str | None, typer.Option(help="The right answer: the draws are graded.")] = None,
    transcript: Annotated[Path | None, typer.Option(help="A .jsonl file to append every draw to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each draw as one line of JSON.")] = False,
) -> None:
    """Ask; see `CHAT_HELP`."""
    from panelbook.rollouts.chat import ChatError, Options, find_weights, open_chat
    from panelbook.rollouts.setting import EngineName, Setting
    from panelbook.rollouts.store import Shard, read_lines
    from panelbook.study.grading import Grader
    from panelbook.study.vocabulary import ArmName

    project = Project.find()
    asked = _profile_model(project, profile)
    engine = engine or asked.engine
    if engine not in ("local", "tinker"):
        raise ChatError(f"there is no engine {engine!r}; there are local and tinker.")
    arms = cast("tuple[ArmName, ...]", tuple(arm or ["panel"]))  # Options checks the names
    options = Options(
        arms, asked.max_tokens if max_tokens is None else max_tokens, temperature, seed, n_draws
    )
    weights = find_weights(checkpoint, project.root, project.runs / profile)
    setting = Setting(cast(EngineName, engine), model or asked.model, asked.batch_size)
    if transcript is not None and transcript.suffix != ".jsonl":
        raise ChatError(
            f"a transcript is a file of JSON lines; give it a name in .jsonl instead of {transcript}."
        )
    if question == "-":
        question = sys.stdin.buffer.read().decode("utf-8", "replace").strip()

    with ExitStack() as stack:
        grader = stack.enter_context(Grader(n_workers=1))
        shard = stack.enter_context(Shard(transcript)) if transcript else None
        opened: list[Chat] = []

        def open_once() -> "Chat":
            if not opened:
                with errors.status(f"loading {setting.model}"):
                    opened.append(
                        open_chat(setting, weights, profile, project.runs / profile / "work", grader)
                    )
                if transcript is not None:
                    opened[0].go_on_from(read_lines(transcript)[0])
            return opened[0]

        def ask(question: str, options: "Options", gold: str | None) -> None:
            _ask(open_once(), question, options, gold, shard, as_json=as_json)

        if question is not None:
            ask(question, options, gold)
        else:
            _converse(ask, options, gold)


def _profile_model(project: Project, profile: str) -> "ModelParams":
    """Return the parameters of the first stage of a profile that asks a model."""
    from panelbook.pipeline.params import ModelParams
    from panelbook.pipeline.stages import plan

    found = [run.params for run in plan(project, profile) if isinstance(run.params, ModelParams)]
    if not found:
        raise BookError(
            f"profile {profile!r} asks no model; give another with --profile, as miniature or hf."
        )
    return found[0]


def _ask(
    chat: "Chat", question: str, options: "Options", gold: str | None, shard: "Shard | None", *, as_json: bool
) -> None:
    """Put one question; show its draws, and keep them if they are to be kept."""
    from panelbook.pipeline.chat_view import show_draws, watch

    with watch(errors if as_json else console, chat) as on_token:
        records = chat.ask(question, options, gold, on_token)
    for record in records:
        if shard is not None:
            shard.append(record)
        if as_json:
            print(json.dumps(record))
    if not as_json:
        show_draws(console, records, chat.weights.name)


Ask = Callable[[str, "Options", str | None], None]


def _converse(ask: Ask, options: "Options", gold: str | None) -> None:
    """Ask what is typed, line by line, until there is no more."""
    if sys.stdin.isatty():
        console.print("A question, or /help. Ctrl-D ends.", highlight=False)
    for line in _read_lines():
        try:
            if not line.startswith("/"):
                if line:
                    ask(line, options, gold)
                    gold = None
            elif line in ("/quit", "/exit"):
                return
            elif line == "/help":
                console.print(HELP, markup=False, highlight=False)
            else:
                options, gold = _change(line, options, gold)
        except BookError as error:
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True, style="red")
        except KeyboardInterrupt:
            errors.print("cancelled", style="yellow")


def _read_lines() -> Iterator[str]:
    """Yield lines of standard input, with a prompt and a history where someone types them."""
    tty = sys.stdin.isatty()
    if tty:
        with suppress(ImportError):
            import readline  # noqa: F401  # `input` takes its line editing and history from there
    while True:
        try:
            line = input("> " if tty else "")
        except EOFError:
            if tty:
                console.print()
            return
        except KeyboardInterrupt:
            if not tty:
                raise
            console.print()
            continue
        except UnicodeDecodeError:
            errors.print("that line is not UTF-8; it is left out.", style="red")
            continue
        yield line.strip()


def _change(line: str, options: "Options", gold: str | None) -> "tuple[Options, str | None]":
    """Return what a line that begins with a slash makes of the options."""
    from panelbook.rollouts.chat import ChatError

    name, _, value = line.partition(" ")
    value = value.strip()
    changes: dict[str, Any] = {}
    try:
        if name == "/gold":
            gold = value or None
        elif name == "/arm":
            changes["arms"] = tuple(value.replace(",", " ").split())
        elif name in NUMBERS:
            option, read = NUMBERS[name]
            changes[option] = read(value)
        else:
            raise ChatError(f"there is no {name}. There are:\n{HELP}")
    except ValueError:
        raise ChatError(f"{name} takes a number; got {value!r}.") from None
    options = replace(options, **changes)
    console.print(
        f"{', '.join(options.arms)}; {options.n_draws} draw{'s' * (options.n_draws > 1)} of at most "
        f"{options.max_tokens} tokens, temperature {options.temperature:g}, seed {options.seed}"
        + (f"; gold {gold}" if gold else ""),
        markup=False,
        highlight=False,
    )
    return options, gold
