"""A real vLLM on a CPU beside the policy: do both say the same, do weights arrive, is an evaluation the same?

Started by ``make test-vllm``, which makes the environment that vLLM runs in. Everything happens on the loopback
address, with the embedded model in float32. Each part's figures are written as JSON as soon as they are there, and a
part whose checks fail makes the command fail.

    PYTHONPATH=tests:benchmarks python scripts/real_vllm.py .venv-vllm/bin
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from measure import origin
from support.runs import metrics

from visual_rft.answering.answering import answer
from visual_rft.answering.local import LocalModel
from visual_rft.answering.questions import ImageQuestions
from visual_rft.answering.served import ServedModel
from visual_rft.config.config import Config, parse_config
from visual_rft.config.sections import LoraConfig, ModelConfig, RolloutConfig
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ServerError
from visual_rft.evaluation.plan import Plan
from visual_rft.evaluation.run import evaluate
from visual_rft.export.export import export_run
from visual_rft.policy.constrained import constrain
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.policy.stored.places import EMBEDDED
from visual_rft.samplers.proof import Proof
from visual_rft.samplers.served import ServedSampler
from visual_rft.samplers.weights import AdapterWeights, FileWeights, forget, with_paused, written
from visual_rft.serving.client import Client
from visual_rft.serving.started import started
from visual_rft.serving.vllm_options import SERVER_VARIABLES, flags, rollout_options
from visual_rft.tasks import load_task
from visual_rft.tasks.patterns import pattern_of
from visual_rft.training.rft import train

AGREE = 1e-4
"""Nats: greatest difference of a log-probability between vLLM and transformers, float32."""
HERE = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
"""Variables of a vLLM that shares two cores with whatever else runs."""
SMALL = ["--max-num-seqs", "16", "--enforce-eager"]
Found = dict[str, Any]


class SameName(AdapterWeights):
    """An adapter that is loaded again under one name, in place."""

    def push(self, policy: Policy, version: int) -> str:
        place = written(policy, self.folder, version)
        body = {"lora_name": "policy", "lora_path": str(place), "load_inplace": version > 0}
        for url in self.client.urls:
            with_paused(self.client, url, [("/v1/load_lora_adapter", body)])
        forget(self.folder, version)
        return "policy"


def keeping_caches(client: Client, url: str, calls: list[tuple[str, Any]]) -> None:
    """As ``with_paused``, of somebody who forgets the caches."""
    for path, body in [("/pause?mode=wait&clear_cache=false", None), *calls, ("/resume", None)]:
        client.call(url, "POST", path, body)


class Machine:
    """The environment of vLLM, and a folder for what is written.

    Args:
        binaries: folder of its ``python`` and ``vllm``.
        folder: where runs, weights and logs go.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries, self.folder = binaries.absolute(), folder
        os.environ.update(HERE)
        os.environ["PATH"] = f"{self.binaries}{os.pathsep}{os.environ['PATH']}"  # so that "vllm serve" is found

    @contextmanager
    def serving(self, name: str, model: ModelConfig, *, constrained: bool = False) -> Iterator[str]:
        """A server for rollouts of the embedded model."""
        options = rollout_options(model, "float32", constrained=constrained)
        command = ["vllm", "serve", str(EMBEDDED), *SMALL, *flags(options)]
        with started(command, self.folder / f"{name}.log", SERVER_VARIABLES) as url:
            yield url

    def pushed_weights(self) -> Found:
        """Same log-probabilities, before a push and after pushes of other weights, about the same images."""
        with self.serving("weights", ModelConfig()) as url:
            found = pushes(url, self.folder / "pushed", FileWeights, ["language_model", "visual"])
            with mock.patch("visual_rft.samplers.weights.with_paused", keeping_caches):
                try:
                    pushes(url, self.folder / "careless", FileWeights, ["visual"])
                    found["caches kept"] = "not noticed"
                except ServerError as error:
                    found["caches kept"] = re.sub(r"http://\S+?:\d+", "URL", str(error))
        differences = [value for name, value in found.items() if name.startswith("difference")]
        changes = [value for name, value in found.items() if name.startswith("the policy changed")]
        return found | {"checks": {
            f"within {AGREE} nats of transformers": max(differences) < AGREE,
            "the new weights differ from the old": min(changes) > 100 * AGREE,
            "kept caches are noticed": "are not what it computes with" in found["caches kept"],
        }}  # fmt: skip

    def pushed_adapters(self) -> Found:
        """The same of an adapter on both parts of the model: a name for each version, and one name in place."""
        model = ModelConfig(lora=LoraConfig(rank=4, vision=True))
        with self.serving("adapters", model) as url:
            named = pushes(url, self.folder / "named", AdapterWeights, ["lora_B", "visual"], model)
            same = pushes(url, self.folder / "same", SameName, ["lora_B", "visual"], model)
        differences = [v for one in (named, same) for name, v in one.items() if name.startswith("difference")]
        return {"a name for each version": named, "in place": same, "checks": {
            f"within {AGREE} nats of transformers": max(differences) < AGREE,
        }}  # fmt: skip

    def constrained(self) -> Found:
        """Answers of the task's form by structured outputs, with the probabilities of the masked distribution."""
        task = load_task("detection")
        with self.serving("constrained", ModelConfig(), constrained=True) as url:
            found: Found = {}
            for name in ("free", "constrained"):
                policy = load_policy(ModelConfig(), RolloutConfig(max_new_tokens=160, temperature=1.6))
                pattern = pattern_of(task, policy.space, [], policy.reasoning.tag)
                if name == "constrained":
                    constrain(policy, task)
                with sampling(url, policy, FileWeights, self.folder / name) as sampler:
                    drawn = sampler.sample(policy.encode(questions(policy, 4)), 4, Draws(0, 0))
                assert drawn.sampled is not None
                rows = [
                    (text, cut)
                    for texts, cuts in zip(drawn.text, drawn.truncated.tolist(), strict=True)
                    for text, cut in zip(texts, cuts, strict=True)
                ]
                found[name] = {
                    "completions": len(rows), "cut off": sum(cut for _, cut in rows),
                    "of the form": sum(re.fullmatch(pattern, text) is not None for text, _ in rows),
                    "difference": float((drawn.sampled - drawn.logprobs).abs()[drawn.mask].max()),
                }  # fmt: skip
        kept = found["constrained"]
        return found | {"checks": {
            "every completion that is not cut off has the form": kept["of the form"] == 16 - kept["cut off"],
            "without constraint some have not": found["free"]["of the form"] < 16 - found["free"]["cut off"],
            f"within {AGREE} nats of transformers": kept["difference"] < AGREE,
        }}  # fmt: skip

    def five_steps(self) -> Found:
        """Five steps of GRPO with vLLM as a server that the run starts, with vLLM in its process, and without vLLM."""
        serve = shlex.join(["vllm", "serve", *SMALL])
        found = {
            "server": self.run_of("server", engine="vllm", mode="server", serve=serve),
            "colocate": self.run_of("colocate", engine="vllm", mode="colocate"),
            "own": self.run_of("own"),
        }
        means = {name: sum(run["reward"]) / 5 for name, run in found.items()}
        spread = sum(found["own"]["reward_std"]) / 5
        margin = 4 * spread / (5 * 8 * 4) ** 0.5  # four standard errors of 160 rewards
        return {**found, "mean reward": means, "four standard errors": margin, "checks": {
            "rewards of the server within the noise": abs(means["server"] - means["own"]) < margin,
            "rewards in one process within the noise": abs(means["colocate"] - means["own"]) < margin,
            f"within {AGREE} nats of transformers": max(
                max(found[name]["largest difference"]) for name in ("server", "colocate")
            ) < AGREE,
        }}  # fmt: skip

    def run_of(self, name: str, **rollout: Any) -> Found:
        """Five steps, in the environment of vLLM where both share a process."""
        values = config_of(self.folder / name, steps=5, **rollout)
        if rollout.get("mode") == "colocate":
            file = self.folder / "colocate.yaml"
            file.write_text(yaml.safe_dump(values), encoding="utf-8")
            subprocess.run([self.binaries / "python", "-m", "visual_rft", "train", file], check=True)  # noqa: S603
        else:
            train(parse_config(values, name))
        rows = metrics(self.folder / name)
        return {
            "reward": [round(row["reward"], 4) for row in rows],
            "reward_std": [round(row["reward_std"], 4) for row in rows],
            "largest difference": [row.get("sampler/largest_difference", 0.0) for row in rows],
        }

    def evaluation(self) -> Found:
        """The same held-out questions, asked of the server and of a policy here."""
        config = parse_config(config_of(self.folder / "none", steps=1), "evaluation")
        with self.serving("evaluation", ModelConfig()) as url:
            found = {name: evaluated(config, plan) for name, plan in (("server", Plan(server=(url,))), ("own", Plan()))}
        return found | {"checks": {"equal AP": found["server"]["AP"] == found["own"]["AP"]}}

    def exported(self) -> Found:
        """The command that ``export`` prints is run, and what it serves answers as the policy did."""
        found: Found = {}
        for name, lora in (("whole", None), ("merged", {"rank": 4}), ("adapter", {"rank": 4})):
            values = config_of(self.folder / f"run-{name}", steps=2, lora=lora)
            train(parse_config(values, name))
            done = export_run(self.folder / f"run-{name}", self.folder / name, adapter=name == "adapter")
            if name == "whole":  # of Qwen2.5-VL's kind, which changes greedy answers wherever it is believed
                (done.folder / "generation_config.json").write_text('{"repetition_penalty": 1.3}', encoding="utf-8")
            config = parse_config(values, name).with_model(path=str(self.folder / f"run-{name}"), lora=None)
            policy = load_policy(config.model, config.rollout)
            task = load_task("detection")
            asked = [ImageQuestions((scene.ask(scene.labels[0]),)) for scene in Shapes(12, seed=6)]
            own = texts(answer(LocalModel(policy), task, asked))
            with started(shlex.split(done.serve), self.folder / f"{name}.log") as url:
                served = Client([url], "tuned" if name == "adapter" else None)
                with ServedModel(served, policy.space, config.rollout.max_new_tokens) as model:
                    there = texts(answer(model, task, asked))
            base = texts(answer(LocalModel(load_policy(ModelConfig(), config.rollout)), task, asked))
            found[name] = {
                "command": done.serve.replace(str(self.folder), "").replace(str(EMBEDDED), "tiny"),
                "answers": len(own), "equal": sum(a == b for a, b in zip(own, there, strict=True)),
                "equal to the untrained base's": sum(a == b for a, b in zip(own, base, strict=True)),
            }  # fmt: skip
        return found | {"checks": {
            "all answers are equal": all(one["equal"] == one["answers"] for one in found.values()),
            "the trained model is not the base": all(
                one["equal to the untrained base's"] < one["answers"] for one in found.values()
            ),
        }}  # fmt: skip


@contextmanager
def sampling(url: str, policy: Policy, way: Callable[..., Any], folder: Path) -> Iterator[ServedSampler]:
    client = Client([url], str(EMBEDDED))
    sampler = ServedSampler(policy, client, way(client, folder), Proof(policy, AGREE), 4)
    try:
        yield sampler
    finally:
        sampler.close()


def pushes(
    url: str, folder: Path, way: Callable[..., Any], parts: list[str], model: ModelConfig | None = None
) -> Found:
    """Greatest difference of a sampled token's log-probability, G = 4, before and after pushes of changed parts."""
    policy = load_policy(model or ModelConfig(), RolloutConfig(max_new_tokens=48))
    found: Found = {}
    with sampling(url, policy, way, folder) as sampler:
        for step, part in enumerate(["", *parts]):
            if part:
                change(policy, part)
            drawn = sampler.sample(policy.encode(questions(policy, 3)), 4, Draws(0, step))
            assert drawn.sampled is not None
            name = f"after {part}" if part else "before"
            found[f"difference {name}"] = float((drawn.sampled - drawn.logprobs).abs()[drawn.mask].max())
            if part:
                found[f"the policy changed by, {part}"] = sampler.proof.changed
    return found


def change(policy: Policy, part: str) -> None:
    """Other weights, from a seed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if part in name and parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))


def questions(policy: Policy, count: int) -> list[Prompt]:
    task = load_task("detection")
    return [Prompt.of(task, scene.ask(scene.labels[0]), policy.space) for scene in Shapes(count, seed=2)]


def config_of(folder: Path, steps: int, lora: Found | None = None, **rollout: Any) -> Found:
    return {
        "model": {"lora": lora} if lora else {},
        "data": {
            "train": [{"source": "shapes", "count": 32, "seed": 3}],
            "evaluation": [{"source": "shapes", "count": 20, "seed": 5}],
        },
        "rollout": {"group_size": 4, "max_new_tokens": 96, **rollout},
        "optimizer": {"learning_rate": 1e-3 if steps == 2 else 1e-5}, "objective": {"beta": 0.0},
        "run": {"folder": str(folder), "steps": steps, "prompts_per_batch": 8, "evaluate_base": False},
    }  # fmt: skip


def evaluated(config: Config, plan: Plan) -> Found:
    started_at = time.monotonic()
    return {"AP": evaluate(config, plan)["AP"], "seconds": round(time.monotonic() - started_at, 1)}


def texts(rows: Any) -> list[str]:
    return [one.text for row in rows for one in row.answers]


PARTS = ("evaluation", "pushed_weights", "pushed_adapters", "constrained", "five_steps", "exported")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binaries", type=Path, help="folder of python and vllm in the environment that has vLLM")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/vllm.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    code = "from importlib.metadata import version as v; print(*map(v, ('vllm-cpu', 'torch', 'transformers')))"
    python = arguments.binaries / "python"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    known = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    vllm = dict(zip(("vllm-cpu", "torch", "transformers"), told, strict=True))
    result = {
        "what": "a real vLLM on a CPU beside this package: the embedded model, float32, a thread each",
        **origin(1), "cores": f"{os.cpu_count()}, shared with other work", "vllm": vllm,
        "parts": known.get("parts", {}),
    }  # fmt: skip
    failed = []
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            found = getattr(Machine(arguments.binaries, Path(folder)), name)()
        result["parts"][name.replace("_", " ")] = {**found, "seconds": round(time.monotonic() - began, 1)}
        failed += [f"{name}: {check}" for check, good in found["checks"].items() if not good]
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps({name: found}, indent=2), flush=True)
    sys.exit(f"not as it should be: {'; '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
