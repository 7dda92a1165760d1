"""The embedded SmolLM2 as a GGUF file of 32-bit weights.

llama.cpp rounds activations to 8 bits where it multiplies them by quantised weights, which moves
log-probabilities by about 0.1. With the same weights written out at full precision it computes what
transformers does, so that a difference is a fault of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

ALL_F32 = 0  # value of general.file_type


def write_full(source: Path, target: Path) -> None:
    """Copy all fields, and every tensor dequantised."""
    reader = GGUFReader(source)
    fields: dict[str, Any] = dict(reader.fields)
    writer = GGUFWriter(target, fields.pop("general.architecture").contents())
    for name, field in fields.items():
        if name.startswith("GGUF.") or name == "general.file_type":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(ALL_F32)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
