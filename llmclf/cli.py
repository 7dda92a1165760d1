"""The ``llmclf`` command. Each command imports what it needs: comparing runs needs no torch."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import tyro
from rich.console import Console
from tyro.extras import SubcommandApp

from llmclf.atomic import write_text
from llmclf.config import ConfigError, exit_on_user_error
from llmclf.report.config import ReportConfig

app = SubcommandApp()
REPORT = ReportConfig()
DESCRIPTION = """Compare ways of classifying text.

llmclf plan RECIPE says what fits on your devices, llmclf slurm RECIPE prints a job script (each
with --help), llmclf --version the version.
"""


@app.command
def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    *,
    output_dir: Path | None = None,
    markdown: Path | None = None,
    skip_unfinished: tyro.conf.FlagCreatePairsOff[bool] = False,
    report: ReportConfig = REPORT,
) -> None:
    """Compare finished runs on the same rows: scores with intervals, costs, and a verdict.

    Args:
        runs: Run folders, or folders of run folders.
        output_dir: Folder to write the report to: report.html, report.md and tables/*.csv.
        markdown: File to write the table of scores to, too, in Markdown.
        skip_unfinished: Leave out runs without usable results instead of refusing them.
        report: How the runs are compared.
    """
    from llmclf.report.analyse import analyse
    from llmclf.report.comparison import Comparison
    from llmclf.report.folders import read_all
    from llmclf.report.write import write

    found, left_out = read_all(runs, skip_unfinished=skip_unfinished)
    title = f"Comparison of {', '.join(dict.fromkeys(run.name for run in found))}"
    analysis = analyse(found, report, title=title, failed=left_out)
    table = Comparison(analysis)
    Console().print(table)
    if markdown is not None:
        try:
            write_text(markdown, table.markdown())
        except OSError as error:
            raise ConfigError(f"--markdown {markdown}: cannot be written ({error}).") from error
    if output_dir is not None:
        path = write(analysis, output_dir)["report.html"]
        Console().print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)


@app.command(name="plan")
def plan_command(recipe: tyro.conf.Positional[Path]) -> None:
    """Show which methods and strategies fit your devices (llmclf plan --help: all options).

    Args:
        recipe: A recipe file; its own options may follow.
    """
    raise AssertionError("main() hands the arguments over: those of the recipe are not known here")


@app.command
def env(*, json: Path | None = None) -> None:
    """Show what this machine is, and which strategies and quantisations run on it.

    Args:
        json: File to write the report to, too, as JSON.
    """
    from llmclf import usable
    from llmclf.config import dump_json

    found = usable.report()
    for line in usable.lines(found):
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
    if json is not None:
        try:
            write_text(json, dump_json(found))
        except OSError as error:
            raise ConfigError(f"--json {json}: cannot be written ({error}).") from error


def main() -> None:
    """Run the command line. Exit code 0: done, 2: the user's mistake, 1: a failure of ours."""
    if sys.argv[1:] == ["--version"]:
        print(version("llmclf"))
        return
    with exit_on_user_error():
        # These pass on options of the recipe, which tyro would refuse.
        if sys.argv[1:2] == ["plan"]:
            from llmclf import plan

            plan.main(sys.argv[2:])
        elif sys.argv[1:2] == ["slurm"]:
            from llmclf import slurm

            slurm.main(sys.argv[2:])
        else:
            app.cli(prog="llmclf", description=DESCRIPTION)


if __name__ == "__main__":
    main()
