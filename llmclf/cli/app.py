"""The ``llmclf`` command: which commands there are; each imports what it needs when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Union

import tyro

from llmclf.cli.compare import Compare
from llmclf.cli.env import Env
from llmclf.cli.plan import Plan
from llmclf.cli.recipes import Recipes
from llmclf.cli.slurm import Slurm, joined
from llmclf.config import did_you_mean, exit_on_user_error
from llmclf.terminal import until_nobody_reads

COMMANDS: dict[str, type[Any]] = {
    "recipes": Recipes,
    "plan": Plan,
    "env": Env,
    "slurm": Slurm,
    "compare": Compare,
}
TAKE_OPTIONS_OF_A_RECIPE = (Plan, Slurm)
DESCRIPTION = """Which language-model approach should classify my text, and what does it cost?

llmclf COMMAND --help shows a command's options, llmclf --version the version. Completion of names
and options: llmclf --tyro-print-completion bash (or zsh, tcsh).
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit code 0: done, 2: the user's mistake, 1: a failure of ours."""
    words = list(sys.argv[1:] if argv is None else argv)
    with until_nobody_reads(), exit_on_user_error():
        if words == ["--version"]:
            print(version("llmclf"))
            return
        check_name(words)
        command, rest = parse(joined(words), return_unknown_args=True)
        if rest and not isinstance(command, TAKE_OPTIONS_OF_A_RECIPE):
            parse(words)  # exits, naming what it does not know and the nearest it does
        command.run(rest)


def parse(words: Sequence[str], **settings: Any) -> Any:
    """The command of these words; tyro exits with 2 on a mistake. Among the others each command has
    one line, in its own --help the whole docstring."""
    alone = bool(words) and words[0] in COMMANDS
    commands: Any = [
        Annotated[
            command,
            tyro.conf.subcommand(name, description=None if alone else first_line(command)),
        ]
        for name, command in COMMANDS.items()
    ]
    union: Any = Union[tuple(commands)]  # noqa: UP007  # made at run time
    return tyro.cli(
        union,
        args=list(words),
        prog="llmclf",
        description=DESCRIPTION,
        config=(tyro.conf.OmitSubcommandPrefixes,),
        **settings,
    )


def first_line(command: type[Any]) -> str:
    """The first line of a command's docstring."""
    return (command.__doc__ or "").partition("\n")[0]


def check_name(words: Sequence[str]) -> None:
    """Exit with 2, naming the nearest command, for one that there is not."""
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        print(
            f"error: llmclf {words[0]!r}: no such command.{hint} There are: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
