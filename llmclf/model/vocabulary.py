"""Whether a model has an embedding for every token that it will be given."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from llmclf.config import ConfigError
from llmclf.invisible import quoted


def check_token(
    token_id: int,
    where: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_embeddings: int,
    checkpoint: str,
) -> None:
    """Raise ConfigError for a token beyond the model's embeddings.

    A tokenizer may well have more tokens than the model: only those that occur matter.

    ``token_id``: the largest of some text; ``where``: what has it, for the message.
    """
    if token_id < num_embeddings:
        return
    token = tokenizer.convert_ids_to_tokens(int(token_id))
    raise ConfigError(
        f"model.checkpoint={quoted(checkpoint)}: its tokenizer has {len(tokenizer)} tokens, but "
        f"the model has embeddings for {num_embeddings}, and {where} has the token {quoted(token)} "
        f"with id {token_id}. Put the tokenizer that the model was trained with into the folder, "
        "or enlarge the model by model.resize_token_embeddings(len(tokenizer)) and save it."
    )
