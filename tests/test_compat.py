"""Every private part of another library that llmclf uses is there, stands in llmclf/compat, and
belongs to a library with an upper bound."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests import processes

SOURCE = processes.REPOSITORY / "llmclf"
COMPAT = SOURCE / "compat"


@dataclass(frozen=True)
class Part:
    """Something that a library does not promise."""

    library: str
    holder: str
    """What has it: ``module`` or ``module:object`` to import, or a name that :func:`made` knows."""
    name: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.library}: {self.holder} {self.name}"

    def gone(self) -> str:
        """What to say where it is not there."""
        return (
            f"{self.library} {metadata.version(self.library)} has no {self.name} "
            f"({self.holder}): llmclf/compat/{self.library}.py wraps it for {self.purpose}"
        )


SHARES = "the share of a parameter that a rank saves in a checkpoint and reads from one"
WRITTEN = "weights that follow a checkpoint that was read"
SHAPES = "names of weights beside an adapter"
PARTS = [
    Part("accelerate", "accelerate.state:AcceleratorState", "_reset_state", "a second run"),
    Part("accelerate", "accelerate.commands.launch", "launch_command_parser", "dropped options"),
    Part("accelerate", "accelerate.commands.launch", "_validate_launch_command", "dropped options"),
    Part("accelerate", "a DeepSpeedPlugin", "deepspeed_config", "settings that the recipe owns"),
    Part("bitsandbytes", "a Linear4bit", "support_avx512bf16_for_cpu", "weights that stay"),
    Part("bitsandbytes", "a Linear8bitLt", "state", "saving quantised weights in float"),
    Part("deepspeed", "deepspeed.ops", "__compatible_ops__", "CPU ranks by gloo alone"),
    *(
        Part("deepspeed", "an engine of stage 2", name, SHARES)
        for name in (
            "module.weight._hp_mapping.param_group_index",
            "module.weight._hp_mapping.lp_fragment_address.start",
            "module.weight._hp_mapping.hp_fragment_address.start",
            "module.weight._hp_mapping.hp_fragment_address.numel",
            "optimizer.single_partition_of_fp32_groups",
            "optimizer.optimizer.state",
        )
    ),
    *(
        Part("deepspeed", "an engine of stage 3", name, SHARES)
        for name in (
            "module.weight.ds_id",
            "module.weight.ds_numel",
            "module.weight.ds_shape",
            "optimizer.fp32_partitioned_groups_flat",
            "optimizer.get_param_id",
            "optimizer.grad_position",
            "optimizer.optimizer.state",
        )
    ),
    *(
        Part("deepspeed", "an engine of stage 3", name, WRITTEN)
        for name in (
            "module.weight.all_gather",
            "optimizer._partition_all_parameters",
            "optimizer._reassign_or_swap_out_partitioned_parameters",
            "optimizer.persistent_parameters",
            "zero_optimization_stage",
        )
    ),
    Part("deepspeed", "an engine of stage 2", "optimizer.update_lp_params", WRITTEN),
    Part("peft", "a LoRA layer", "base_layer", SHAPES),
    Part("peft", "a LoRA layer", "lora_magnitude_vector", SHAPES),
    Part("peft", "a head beside LoRA", "modules_to_save", SHAPES),
    Part("peft", "a head beside LoRA", "original_module", SHAPES),
    Part("torch", "torch._subclasses.fake_tensor", "FakeTensorMode", "llmclf plan"),
    Part("torch", "torch._subclasses.fake_tensor", "unset_fake_temporarily", "llmclf plan"),
    Part("torch", "torch.utils._python_dispatch", "TorchDispatchMode", "llmclf plan"),
    Part("torch", "torch.utils._pytree", "tree_leaves", "llmclf plan"),
    Part("torch", "torch:UntypedStorage", "_cdata", "llmclf plan"),
    Part(
        "torch",
        "torch.distributed.tensor._utils",
        "compute_local_shape_and_global_offset",
        "checkpoints under FSDP2",
    ),
    Part("torch", "torch:ops.aten", "_scaled_dot_product_flash_attention_for_cpu", "prompting"),
    Part("torch", "torch:ops.aten", "_scaled_dot_product_efficient_attention", "prompting"),
    Part("trackio", "a trackio run", "id", "a resumed run"),
    *(
        Part("transformers", "transformers.integrations.deepspeed", name, "models that stay whole")
        for name in (
            "_hf_deepspeed_config_weak_ref",
            "unset_hf_deepspeed_config",
            "is_deepspeed_zero3_enabled",
        )
    ),
    Part(
        "transformers",
        "transformers:PreTrainedModel",
        "_move_missing_keys_from_meta_to_device",
        "new weights that are drawn on the CPU",
    ),
    Part(
        "transformers", "transformers:PreTrainedModel", "_get_dtype_plan", "weights in two dtypes"
    ),
    Part("transformers", "transformers:PretrainedConfig", "_attn_implementation", "prompting"),
    Part("transformers", "a Llama attention", "layer_idx", "prompting"),
    Part("transformers", "a model from GGUF", "hf_quantizer", "smollm2-135m"),
    Part("transformers", "a model from GGUF", "config.quantization_config", "smollm2-135m"),
    Part(
        "transformers",
        "transformers.integrations.bitsandbytes",
        "dequantize_bnb_weight",
        "saving quantised weights in float",
    ),
    *(
        Part("wandb", "W&B's settings", name, "runs that do not tell of the machine")
        for name in (
            "x_disable_machine_info",
            "x_disable_meta",
            "x_disable_stats",
            "x_save_requirements",
        )
    ),
]
ENGINE = "an engine of stage "

OURS = {
    "super().__post_init__": "a dataclass of ours that extends another",
    "both.__dataclass_fields__": "the standard library's table of fields, put in another order",
    "os._exit": "documented: the way to end a process while its main thread waits",
    "model._prompt": "RemoteModel's own, called from its module",
}
"""Names with an underscore, outside compat, that are no private part of another library."""
INTERNAL = (
    "accelerate.commands",
    "deepspeed.ops",
    "deepspeed.runtime",
    "transformers.integrations",
    "transformers.models",
)
"""Modules without an underscore that their libraries do not document."""


@cache
def made(what: str) -> Any:
    """A real object whose attributes are not those of its class."""
    import torch
    from torch import nn

    if what == "a DeepSpeedPlugin":
        from accelerate.utils import DeepSpeedPlugin

        return DeepSpeedPlugin(zero_stage=2)
    if what in ("a Linear4bit", "a Linear8bitLt"):
        import bitsandbytes

        return getattr(bitsandbytes.nn, what.removeprefix("a "))(64, 64)
    if what in ("a LoRA layer", "a head beside LoRA"):
        from peft import LoraConfig, get_peft_model

        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        config = LoraConfig(target_modules=["0"], modules_to_save=["1"], use_dora=True)
        body, head = get_peft_model(model, config).get_base_model()
        return body if what == "a LoRA layer" else head
    if what == "a Llama attention":
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaAttention

        small = LlamaConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=2)
        with torch.device("meta"):
            return LlamaAttention(small, layer_idx=0)
    assert what == "W&B's settings"
    import wandb

    return wandb.Settings()


@pytest.fixture(scope="module")
def missing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What engines of ZeRO lack of what is wrapped, by stage."""
    folder = tmp_path_factory.mktemp("zero")
    wanted: dict[str, list[str]] = {}
    for part in PARTS:
        if part.holder.startswith(ENGINE):
            wanted.setdefault(part.holder.removeprefix(ENGINE), []).append(part.name)
    ranks = processes.start(
        folder / "log",
        "tests/zero_parts.py",
        str(folder / "missing.json"),
        json.dumps(wanted),
        environment={
            "DS_ACCELERATOR": "cpu",
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(processes.free_port()),
        },
    )
    assert ranks.wait() == 0, ranks.text()[-3000:]
    return json.loads((folder / "missing.json").read_text())


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_the_library_still_has_it(part: Part, request: pytest.FixtureRequest) -> None:
    pytest.importorskip(part.library)
    if part.holder.startswith(ENGINE):
        missing = request.getfixturevalue("missing")[part.holder.removeprefix(ENGINE)]
        assert part.name not in missing, part.gone()
        return
    if part.holder == "a trackio run":  # whose constructor starts threads and writes
        run = pkgutil.resolve_name("trackio.run:Run.__init__")
        assert f"self.{part.name} =" in inspect.getsource(run), part.gone()
        return
    if part.holder == "a model from GGUF":  # tests/test_embedded.py loads one
        source = inspect.getsource(pkgutil.resolve_name("transformers.quantizers.base"))
        assert f"model.{part.name}" in source, part.gone()
        return
    try:
        holder = made(part.holder) if " " in part.holder else pkgutil.resolve_name(part.holder)
        attrgetter(part.name)(holder)
    except (AttributeError, ImportError) as error:
        pytest.fail(f"{part.gone()} ({error})")


def test_what_is_gone_is_named() -> None:
    part = Part("torch", "torch.utils._pytree", "leaves_of_old", "llmclf plan")
    with pytest.raises(pytest.fail.Exception) as caught:
        test_the_library_still_has_it(part, None)  # type: ignore[arg-type]
    version = metadata.version("torch")
    assert (
        f"torch {version} has no leaves_of_old (torch.utils._pytree): "
        "llmclf/compat/torch.py wraps it for llmclf plan"
    ) in str(caught.value)


def is_private(name: str) -> bool:
    """Whether a name begins with an underscore; of the names that Python gives a meaning, those
    that a library made up."""
    if name.startswith("__") and name.endswith("__"):
        return not any(hasattr(kind, name) for kind in (type, object, BaseException, ast, dict))
    return name.startswith("_") and name != "_"


def private_uses(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, expression and name of each use of a private or undocumented part."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, ast.unparse(node), node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("llmclf") or module == "__future__":
                continue
            for alias in node.names:
                path = f"{module}.{alias.name}" if module else alias.name
                if any(map(is_private, path.split("."))) or path.startswith(INTERNAL):
                    yield node.lineno, f"import {path}", alias.name
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
            named = node.args[1]
            if node.func.id in ("getattr", "hasattr", "setattr") and (
                isinstance(named, ast.Constant) and is_private(str(named.value))
            ):
                yield node.lineno, ast.unparse(node), str(named.value)


@cache
def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_private_parts_are_used_in_compat_alone() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        if COMPAT not in path.parents
        for line, text, _ in private_uses(parsed(path))
        if text not in OURS
    ]
    assert found == [], "wrap these in llmclf/compat, or name them in OURS with the reason"


@pytest.mark.parametrize(
    "text",
    [
        "import torch._subclasses",
        "from torch.utils._pytree import tree_leaves",
        "from accelerate.commands.launch import launch_command_parser",
        "from transformers import integrations",
        "model.config._attn_implementation",
        "deepspeed.ops.__compatible_ops__",
        "hasattr(parameter, '_hp_mapping')",
        "setattr(run, '_id', 1)",
    ],
)
def test_a_use_is_found(text: str) -> None:
    assert len(list(private_uses(ast.parse(text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "self._held",
        "from llmclf.data import _own",
        "error.__traceback__",
        "type(x).__name__",
        "from __future__ import annotations",
        "first, _ = pair",
        "getattr(main, '__file__', None)",
    ],
)
def test_what_is_ours_or_pythons_is_no_use(text: str) -> None:
    assert list(private_uses(ast.parse(text))) == []


def test_each_private_name_of_compat_is_among_the_parts() -> None:
    known = {name for part in PARTS for name in (*part.name.split("."), *part.holder.split("."))}
    lost = [
        f"{path.name}:{line}: {text}"
        for path in sorted(COMPAT.glob("*.py"))
        for line, text, name in private_uses(parsed(path))
        if name not in known
    ]
    assert lost == [], "name these in PARTS"


def test_each_library_is_wrapped_in_its_module_and_has_an_upper_bound() -> None:
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [Requirement(r) for r in sum(extras, project["dependencies"])]
    bounded = {r.name for r in required if any(s.operator == "<" for s in r.specifier)}
    libraries = {part.library for part in PARTS}
    assert libraries == {path.stem for path in COMPAT.glob("*.py")} - {"__init__"}
    assert libraries == bounded
    for requirement in required:
        if requirement.name in libraries:  # what is tested lies within
            assert requirement.specifier.contains(metadata.version(requirement.name))


def test_importing_compat_imports_no_optional_library() -> None:
    modules = [f"llmclf.compat.{path.stem}" for path in COMPAT.glob("*.py")]
    code = (
        f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; "
        "print(*{'deepspeed', 'bitsandbytes', 'trackio', 'wandb', 'transformers', 'peft'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
