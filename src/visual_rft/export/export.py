"""Export a run: weights, processor and model card in one folder that plain transformers loads.

Decision: an adapter is merged by default, in float32 whatever the run's type (a merge in bfloat16 rounds the small
update away), and cast afterwards. The folder is made under another name and renamed when it is complete. The run's
config travels along as ``visual_rft.yaml``, so that ``predict``, ``app`` and ``evaluate`` ask the exported model as it
was asked in training; its first line says which weights these are, so that an older export is not sent for a newer one.

    exported = export_run(Path("runs/coins"))
    exported.folder        # runs/coins-model
    exported.serve         # vllm serve runs/coins-model ...
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor

from visual_rft.config.config import Config, dump_config, load_config
from visual_rft.errors import ConfigError, ModelError, RunFolderError
from visual_rft.evaluation.folders import weights_of
from visual_rft.export.card import Facts, model_card, serve_command, snippet
from visual_rft.policy.families import family_of
from visual_rft.policy.loading import base_of_adapter
from visual_rft.policy.stored.places import EXPORTED_CONFIG, RUN_CONFIG, model_folder, run_config_file
from visual_rft.policy.stored.weights import ADAPTER_CONFIG, load_adapter, load_model, read
from visual_rft.report.shapes import shaped
from visual_rft.terminal.notes import warn


@dataclass(frozen=True)
class Exported:
    """What was made.

    Attributes:
        folder: where it is.
        what: the weights in words.
        serve: the command that serves it with vLLM.
        snippet: Python that asks it with transformers.
    """

    folder: Path
    what: str
    serve: str
    snippet: str


def export_run(source: Path, out: Path | None = None, adapter: bool = False, dtype: str | None = None) -> Exported:
    """Write a trained model, its processor and its model card.

    Args:
        source: a run folder (its newest checkpoint is taken), a checkpoint, or a checkpoint's model folder.
        out: the folder to make; default beside the run folder, with ``-model`` added.
        adapter: of a LoRA run the adapter alone; otherwise it is merged into the base.
        dtype: ``float32``, ``bfloat16`` or ``float16``; None takes the one in which the run computed.

    Raises:
        ConfigError: if ``source`` is no run, or ``adapter`` is wanted of a run without one.
        ModelError: if the run has no checkpoint, or its base cannot be loaded.
        RunFolderError: if the folder exists already or cannot be written.
    """
    run, config, weights, dtype = _wanted(source, adapter, dtype)
    is_adapter = (weights / ADAPTER_CONFIG).is_file()
    target = target_of(source, out)
    if target.exists():
        raise RunFolderError(f"{target}: exists already; choose another --out, or delete it")
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        if adapter:
            for name in (ADAPTER_CONFIG, "adapter_model.safetensors"):
                shutil.copyfile(weights / name, unfinished / name)
        else:
            _whole_model(config, weights, is_adapter, dtype).save_pretrained(unfinished)
        options = {"trust_remote_code": config.model.trust_remote_code}
        read(str(weights), lambda: AutoProcessor.from_pretrained(weights, **options)).save_pretrained(unfinished)
        said = _told(weights, adapter, dtype) + dump_config(config)
        (unfinished / EXPORTED_CONFIG).write_text(said, encoding="utf-8")
        facts = _facts(config, run, weights, target, adapter, dtype)
        (unfinished / "README.md").write_text(model_card(replace(facts, name=target.name)), encoding="utf-8")
        unfinished.rename(target)
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        raise RunFolderError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    what = "adapter" if adapter else "merged weights" if is_adapter else "weights"
    return Exported(target, what, serve_command(facts), snippet(facts))


def target_of(source: Path, out: Path | None) -> Path:
    """The folder that :func:`export_run` makes: ``out``, or the run folder's name with ``-model`` added."""
    if out is not None:
        return out
    run = _run_of(source)
    run = run if run.name not in ("", "..") else run.resolve()  # "." is called something, too
    return run.with_name(f"{run.name}-model")


def is_exported(source: Path, target: Path, adapter: bool = False, dtype: str | None = None) -> bool:
    """Whether ``target`` is there and holds what :func:`export_run` would write, with a card that may have been edited.

    Raises:
        ConfigError: as :func:`export_run`.
        RunFolderError: if it holds other weights, or cannot be read.
    """
    if not target.exists():
        return False
    try:
        _, _, weights, dtype = _wanted(source, adapter, dtype)
    except ModelError:
        return True  # no checkpoint is left that could be meant instead
    try:
        first, *_ = (target / EXPORTED_CONFIG).read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    except (OSError, UnicodeDecodeError):
        raise RunFolderError(f"{target}: exists already and is no exported model; choose another --out") from None
    wanted = _told(weights, adapter, dtype)
    if first != wanted:
        has, asked = (line.removeprefix(_TOLD).strip() for line in (first if first.startswith(_TOLD) else "?", wanted))
        raise RunFolderError(
            f"{target}: was exported from {has}, and {asked} is asked for; delete it, or choose another --out"
        )
    return True


_TOLD = "# weights: "


def _told(weights: Path, adapter: bool, dtype: str) -> str:
    """A line that says which weights are exported, and how."""
    step = weights.parent.name if weights.name == "model" else weights.name
    return f"{_TOLD}{step}, {'the adapter' if adapter else dtype}\n"


def _wanted(source: Path, adapter: bool, dtype: str | None) -> tuple[Path, Config, Path, str]:
    """Run folder, config, folder of the weights and type of what is to be exported."""
    if adapter and dtype:
        raise ConfigError("--dtype and --adapter: an adapter is exported as it is")
    run = _run_of(source)
    weights = Path(model_folder(str(source)))
    config = load_config(run / RUN_CONFIG)
    if adapter and not (weights / ADAPTER_CONFIG).is_file():
        raise ConfigError(f"--adapter: {weights} holds all weights, not an adapter (the run has no model.lora)")
    return run, config, weights, dtype or ("bfloat16" if config.model.autocast == "bfloat16" else config.model.dtype)


def _run_of(source: Path) -> Path:
    """The run folder that a run folder, a checkpoint or its model is of."""
    file = run_config_file(str(source))
    if file is None or file.name != RUN_CONFIG:
        raise ConfigError(f"{source}: is not a run folder or a checkpoint of one (no {RUN_CONFIG})")
    return file.parent


def _whole_model(config: Config, weights: Path, is_adapter: bool, dtype: str) -> Any:
    """The trained model without any adapter left on it."""
    wanted = getattr(torch, dtype)
    options: dict[str, Any] = {"trust_remote_code": config.model.trust_remote_code}
    if not is_adapter:
        return load_model(str(weights), dtype=wanted, **options)
    model = load_model(base_of_adapter(str(weights)), dtype=torch.float32, **options)
    return load_adapter(model, str(weights), learns=False).merge_and_unload().to(wanted)


def _facts(config: Config, run: Path, weights: Path, target: Path, adapter: bool, dtype: str) -> Facts:
    """What the run folder knows about the model."""
    step = weights.parent.name if weights.name == "model" else ""
    problems: list[str] = []
    summary = shaped(_json(run / "summary.json"), run / "summary.json", problems, base=dict)
    file = run / "environment.json"
    environment = shaped(_json(file), file, problems, command=list, packages=dict, device=str)
    warn(problems)
    is_adapter = (weights / ADAPTER_CONFIG).is_file()
    base = base_of_adapter(str(weights)) if is_adapter else _where(config.model.path)
    source = base if is_adapter else str(weights)
    options = {"trust_remote_code": config.model.trust_remote_code}
    shape = read(source, lambda: AutoConfig.from_pretrained(source, **options))
    return Facts(
        config=config,
        name=str(target),
        base=config.model.path,
        base_folder=base,
        adapter=adapter,
        dtype=dtype,
        space=family_of(shape.model_type, config.model.family).space,
        checkpoint=step,
        evaluation=_json(run / "evaluation" / f"{step}.json"),
        base_evaluation=summary.get("base") or _json(run / "evaluation" / "step-000000.json"),
        other_evaluations=_other_evaluations(config, weights),
        environment=environment,
    )


def _where(path: str) -> str:
    """The folder behind a model's name; the name itself where the folder is gone, which the weights no longer need."""
    try:
        return model_folder(path)
    except ModelError:
        return path


def _other_evaluations(config: Config, weights: Path) -> list[dict[str, Any]]:
    """Results of ``visual-rft evaluate`` for these weights, and for the base under the same protocol.

    An evaluation belongs to a model if its weights files are those it was made with: a run that went on since then has
    others under the same name.
    """
    own: list[dict[str, Any]] = []
    base: list[dict[str, Any]] = []
    for file in sorted(Path(f"{config.run.folder}-evaluation").glob("*/result.json")):
        result, settings = _json(file), _json(file.with_name("settings.json"))
        missing = [name for name in ("model", "protocol", "n_images", "n_questions") if name not in result]
        if missing:
            raise RunFolderError(
                f"{file}: says no {missing[0]}, as every evaluation does; delete it, or evaluate again"
            )
        asked = (settings.get("weights"), result.get("model"))
        if asked[0] and asked[0] == weights_of(str(weights)):
            own.append(result)
        elif asked[1] == config.model.path and asked[0] == _weights_or_none(config.model.path):
            base.append(result)
    same = {(result["protocol"], result["n_images"]) for result in own}
    return [result for result in base if (result["protocol"], result["n_images"]) in same] + own


def _weights_or_none(path: str) -> list[list[Any]] | None:
    try:
        return weights_of(path)
    except ModelError:  # a base that is gone
        return None


def _json(file: Path) -> dict[str, Any]:
    """A JSON object of the run folder, empty where there is none.

    Raises:
        RunFolderError: if the file is not a JSON object.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file}: cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise RunFolderError(f"{file}: is not a JSON object")
    return content
