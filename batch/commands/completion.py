"""nightshift completion"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from batch.cli.click_help import Command
from jobs.message import N_

HELP = N_("""\
Print a script that completes commands, options and jobs in SHELL: bash, zsh or fish.

\b
  nightshift completion bash > ~/.local/share/bash-completion/completions/nightshift
  nightshift completion zsh > "${fpath[1]}/_nightshift"
  nightshift completion fish > ~/.config/fish/completions/nightshift.fish
""")

_PROGRAM = "nightshift"
_VARIABLE = "_NIGHTSHIFT_COMPLETE"


@click.command("completion", cls=Command, help=HELP)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> int:
    """See HELP."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  the argument allows no other
    made = kind(context.find_root().command, {}, _PROGRAM, _VARIABLE)
    # Its `source` would ask which bash is installed, which may be another machine's.
    click.echo(made.source_template % made.source_vars())
    return 0
