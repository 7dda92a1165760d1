"""What a stranger reads from model folders: probabilities by transformers (and PEFT) alone.

    reload.py OUT ROWS MODEL [MODEL ...]

ROWS: JSON list of texts. OUT: JSON, model folder -> label -> probability of each row.
"""

import json
import logging
import sys
from pathlib import Path

logging.disable(logging.WARNING)

from transformers import AutoModelForSequenceClassification, AutoTokenizer


def probabilities(folder: str, texts: list[str]) -> dict[str, list[float]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    found = model(**batch).logits.float().softmax(-1).T.tolist()
    return {model.config.id2label[i]: row for i, row in enumerate(found)}


out, rows, *folders = sys.argv[1:]
texts = json.loads(Path(rows).read_text(encoding="utf-8"))
found = {}
for folder in folders:
    try:
        found[folder] = probabilities(folder, texts)
    except Exception as error:
        found[folder] = {"error": f"{type(error).__name__}: {error}"}
assert "llmclf" not in sys.modules
Path(out).write_text(json.dumps(found), encoding="utf-8")
