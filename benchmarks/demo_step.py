"""One step of a demonstration's config: ours against TRL's ``GRPOTrainer``, and against our own repeated path.

    python benchmarks/demo_step.py [--task detection] [--repetitions 5] [--without-trl]

Decision: a step is a rollout and its updates, as the config says (two, the second on prompts encoded anew). Every
system has a process of its own and they take turns, so that a drift of the machine meets all; medians and their ratios
count. The embedded model samples its own answers and no weight moves (learning rate 0), so all have the same work:
short prompts, many completions of different lengths. The tuned TRL has gradient checkpointing off and takes all rows of
a step in one batch (``--rows`` for another shape); its default is checkpointing and 8 rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from measure import MALLOC_KEEPS, origin

from visual_rft.config.config import Config, load_config
from visual_rft.data.sources import load_samples
from visual_rft.demo.run import DEMOS
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.loading import load_policy
from visual_rft.policy.prompt import Prompt
from visual_rft.tasks import task_of
from visual_rft.training.advantages import group_advantages
from visual_rft.training.objective import GroupLoss

Receive, Send = Callable[[], str], Callable[[Any], None]
PARTS = ("sample", "update")


def serve_ours(config: Config, receive: Receive, send: Send) -> None:
    """Seconds of a step's parts at each order, until ``stop``."""
    task = task_of(config.task)
    samples = list(load_samples(config.data.train, task))[: config.run.prompts_per_batch]
    policy = load_policy(config.model, config.rollout, engine=config.engine)
    prompts = [Prompt.of(task, sample, policy.space) for sample in samples]
    send({"prompt_tokens": policy.prepare(prompts).lengths})
    step = 0
    while receive() != "stop":
        start = time.perf_counter()
        inputs = policy.prepare(prompts)
        prefix = policy.encode(inputs, for_sampling=True)
        completions = policy.sample(prefix, config.rollout.group_size, Draws(0, step))
        middle = time.perf_counter()
        generator = torch.Generator().manual_seed(step)
        advantages = group_advantages(torch.randn(completions.mask.shape[:2], generator=generator))
        loss = GroupLoss(completions, advantages, None, config.objective)
        for update in range(config.objective.updates_per_rollout):
            policy.backward(policy.encode(inputs) if update else prefix, completions, loss)
            policy.model.zero_grad()
        end = time.perf_counter()
        tokens = int(completions.mask.sum())
        send({"sample": middle - start, "update": end - middle, "step": end - start, "tokens": tokens})
        step += 1


def serve_trl(config: Config, rows: int, checkpointing: bool, receive: Receive, send: Send) -> None:
    """The same of TRL's trainer, whose own loop runs; the parts are not told apart."""
    import transformers
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    from visual_rft.policy.stored.places import model_folder
    from visual_rft.tasks.adapters import trl_reward
    from visual_rft.vision.coordinates import CoordinateSpace

    transformers.utils.logging.set_verbosity_error()
    task, loop = task_of(config.task), config.run
    samples = list(load_samples(config.data.train, task))[: loop.prompts_per_batch]
    space = CoordinateSpace.RELATIVE_1000
    data = [
        {
            "prompt": [{"role": "user", "content": task.prompt(sample.question, space)}],
            "image": sample.images[0].load(),
            "truth": json.dumps(sample.truth),
        }
        for sample in samples
    ]
    updates, whole = config.objective.updates_per_rollout, loop.prompts_per_batch * config.rollout.group_size
    folder = model_folder(config.model.path)

    class Turns(transformers.TrainerCallback):
        """Waits for an order before each rollout and answers after its last update."""

        start = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % updates == 0:
                if receive() == "stop":
                    raise KeyboardInterrupt
                self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % updates == 0:
                send({"step": time.perf_counter() - self.start})

    with tempfile.TemporaryDirectory() as output:
        trainer = GRPOTrainer(
            model=AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa"),
            processing_class=AutoProcessor.from_pretrained(folder),
            reward_funcs=trl_reward(task, space, log_parts=False),
            train_dataset=Dataset.from_list(data),
            args=GRPOConfig(
                output_dir=output, use_cpu=True, bf16=False, per_device_train_batch_size=rows,
                gradient_accumulation_steps=whole // rows, num_generations=config.rollout.group_size,
                num_iterations=updates, max_completion_length=config.rollout.max_new_tokens, max_steps=10_000,
                beta=0.0, loss_type="grpo", learning_rate=0.0, temperature=1.0, top_p=1.0, top_k=0,
                gradient_checkpointing=checkpointing, save_strategy="no", report_to="none", logging_steps=10_000,
                disable_tqdm=True, seed=0,
            ),
        )  # fmt: skip
        trainer.add_callback(Turns())
        send({"per_device_train_batch_size": rows, "gradient_checkpointing": checkpointing, "updates": updates})
        try:
            trainer.train()
        except KeyboardInterrupt:
            return


def _serve(name: str, config: Config, rows: int, connection: Any) -> None:
    """The process of one system."""
    try:
        torch.set_num_threads(config.run.threads or 1)
        if name.startswith("trl"):
            serve_trl(config, rows, name == "trl_default", connection.recv, connection.send)
        else:
            engine = config.engine.model_copy(update={"shared_prefix": name == "shared"})
            serve_ours(config.model_copy(update={"engine": engine}), connection.recv, connection.send)
    except Exception:  # noqa: BLE001 - the other end raises it again
        connection.send(RuntimeError(traceback.format_exc()))


def answer(connection: Any) -> Any:
    """What a process says.

    Raises:
        RuntimeError: that it raised.
    """
    said = connection.recv()
    if isinstance(said, RuntimeError):
        raise said
    return said


def measure(systems: Mapping[str, int], config: Config, repetitions: int) -> dict[str, dict[str, Any]]:
    """Facts and seconds of every system (name: rows of a batch), in turns; the first turn is dropped."""
    context = multiprocessing.get_context("spawn")
    os.environ.update(MALLOC_KEEPS, OMP_NUM_THREADS=str(config.run.threads or 1), HF_HUB_OFFLINE="1")
    os.environ["PYTHONWARNINGS"] = "ignore"
    connections, found = {}, {}
    for name, rows in systems.items():
        connections[name], other = context.Pipe()
        context.Process(target=_serve, args=(name, config, rows, other), daemon=True).start()
    for name, connection in connections.items():
        found[name] = {"facts": answer(connection), "seconds": {}}
    for turn in range(repetitions + 1):
        for name, connection in connections.items():
            connection.send("step")
            said = answer(connection)
            print(f"turn {turn}: {name} {said['step']:.2f} s", file=sys.stderr, flush=True)
            for part, value in said.items() if turn else ():
                found[name]["seconds"].setdefault(part, []).append(value)
    for connection in connections.values():
        connection.send("stop")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="detection", help="which demonstration")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rows", type=int, default=None, help="of a batch of the tuned TRL; default: all of a step")
    parser.add_argument("--without-trl", action="store_true", help="ours and the repeated path only")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "demo_step.json")
    arguments = parser.parse_args()
    config = load_config(DEMOS / f"{arguments.task}.yaml")
    every = config.run.prompts_per_batch * config.rollout.group_size
    systems = {"shared": 0, "repeated": 0}
    if not arguments.without_trl:
        systems |= {"trl_tuned": arguments.rows or every, "trl_default": 8}
    found = measure(systems, config, arguments.repetitions)
    medians = {
        name: {part: statistics.median(values) for part, values in side["seconds"].items()}
        for name, side in found.items()
    }
    ours = medians["shared"]
    ratios = {
        **{f"step_vs_{name}": medians[name]["step"] / ours["step"] for name in systems if name.startswith("trl")},
        **{f"{part}_vs_repeated": medians["repeated"][part] / ours[part] for part in (*PARTS, "step")},
    }
    updates = config.objective.updates_per_rollout
    result = {
        "what": f"one step of demos/{arguments.task}.yaml: images, sampling and {updates} updates",
        **origin(config.run.threads or 1),
        "group": config.rollout.group_size,
        **found["shared"]["facts"],
        "ratios": ratios,
        "median_seconds": medians,
        "systems": found,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"task": arguments.task, **{name: round(value, 3) for name, value in ratios.items()}}))


if __name__ == "__main__":
    main()
