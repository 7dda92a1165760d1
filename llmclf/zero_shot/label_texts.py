"""What stands for each label when texts are compared with it. C: labels."""

from __future__ import annotations

from llmclf.data.corpus import Splits
from llmclf.data.descriptions import are_numbers, for_example
from llmclf.data.table import listed
from llmclf.prompt.template import fill
from llmclf.zero_shot.config import DESCRIPTION, LABEL, Kind, ZeroShotConfig


def label_texts(config: ZeroShotConfig, kind: Kind, splits: Splits) -> tuple[str, ...]:
    """The hypothesis of each label (C), its name and description filled in."""
    descriptions = splits.descriptions
    template = config.template(kind, described=descriptions is not None)
    sentences = descriptions or ("",) * len(splits.labels)
    return tuple(
        fill(template, {"label": label, "description": sentence})
        for label, sentence in zip(splits.labels, sentences, strict=True)
    )


def label_warnings(config: ZeroShotConfig, kind: Kind, splits: Splits) -> list[str]:
    """What is odd about what labels are compared by, a line each."""
    labels, described = splits.labels, splits.descriptions is not None
    template = config.template(kind, described=described)
    if DESCRIPTION in template:
        return []
    warnings = []
    if described:
        warnings.append(
            f"zero_shot.hypothesis={template!r} has no {DESCRIPTION}: data.descriptions are not "
            "read"
        )
    if are_numbers(labels) and LABEL in template:
        warnings.append(
            f"labels are numbers ({listed(labels, 3)}), and texts are compared with them as they "
            f"are; say what they mean: --data.descriptions {for_example(labels)} (prompts take "
            "--prompt.verbaliser, too)"
        )
    return warnings
