"""What the hub's answers mean to who asked for a checkpoint."""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError


def refusal(error: BaseException, checkpoint: str) -> str | None:
    """What to do where the hub answered that it does not hand a checkpoint out; None where the
    error was another one."""
    login = "give this machine a token of your account: `hf auth login`, or HF_TOKEN."
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(cause, GatedRepoError):
            return (
                f"is gated (the hub answered {status}). Accept the licence on its page, "
                f"{constants.ENDPOINT}/{checkpoint}, then {login}"
            )
        if isinstance(cause, RepositoryNotFoundError):
            return (
                f"{constants.ENDPOINT} has no such checkpoint, or keeps it private. Check the "
                f"name, or {login}"
            )
        if status in (401, 403):
            return (
                f"the hub refused it ({status}): the token of this machine is not valid, or has no "
                f"right to read it. Look at {constants.ENDPOINT}/{checkpoint} whether a licence "
                f"has to be accepted, then {login}"
            )
        cause = cause.__cause__ or cause.__context__
    return None
