"""accelerate: its state of the process, what its launcher understood, its DeepSpeed settings."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator


def forget_accelerator() -> None:
    """Let the next Accelerator choose its own precision and strategy.

    The state is one for the process, and a second Accelerator that asks for something else is
    refused; nothing public starts it afresh. The process group that it joined stays.
    """
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


def launch_arguments(arguments: Sequence[str]) -> argparse.Namespace | None:
    """What ``accelerate launch`` understands by these arguments; None where it would refuse them.

    The launcher joins arguments, configuration file and defaults in functions of its command alone,
    and passes on only a part of it to the processes that it starts.
    """
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    logging.disable(logging.WARNING)  # the launcher has said already what it assumes
    try:
        parsed, _ = launch_command_parser().parse_known_args(arguments)
        return _validate_launch_command(parsed)[0]
    except (SystemExit, ValueError, TypeError):
        return None
    finally:
        logging.disable(logging.NOTSET)


def deepspeed_settings(accelerator: Accelerator) -> dict[str, Any]:
    """DeepSpeed's settings, to be read, and changed before a model is prepared.

    The plugin's constructor takes a file or a whole dictionary in place of what the launch asked
    for; to change single keys of it is not documented.
    """
    return accelerator.state.deepspeed_plugin.deepspeed_config
