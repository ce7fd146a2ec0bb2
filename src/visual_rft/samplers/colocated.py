"""vLLM in this process: it samples, then sleeps while the weights are learned from.

Decision: asleep is its usual state. A push wakes its weights, changes them in place out of the policy's own tensors,
without a file between, and wakes the rest; it goes back to sleep as soon as the answers are there, and forgets every
prefix, image and encoded image while it falls asleep. So the GPU holds vLLM's caches only while tokens are drawn. A CPU
has no such memory to give back: there only the caches are cleared. What is asked and what comes back is checked as of a
server (``served.py``).

    engine = Colocated.open("Qwen/Qwen2-VL-2B-Instruct", rollout_options(config.model, "bfloat16"), memory_share=0.3)
    ServedSampler(policy, engine, ColocatedWeights(engine, folder), Proof(policy))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from visual_rft.errors import ConfigError, ServerError, printable
from visual_rft.policy.policy import Policy
from visual_rft.samplers.weights import forget, written
from visual_rft.serving import vllm_folder
from visual_rft.serving.wire import Decoding, Question, Reply, data_url

HERE = "in this process"
VARIABLES = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this very process
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it binds the threads of the update to cores too
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Of vLLM, set where the environment does not say otherwise, before it is imported."""


class Colocated:
    """A :class:`~visual_rft.samplers.interface.SamplingEngine` around an ``LLM`` of vLLM's.

    Args:
        llm: the engine.
        model: name of the model that is asked where there is no adapter.
    """

    urls: tuple[str, ...] = (HERE,)

    def __init__(self, llm: Any, model: str) -> None:
        self.llm, self.model = llm, model
        self.adapter: Any = None
        self._asleep = False
        self.sleep()

    @classmethod
    def open(cls, model: str, options: Mapping[str, Any], memory_share: float) -> Self:
        """Start vLLM.

        Args:
            model: folder or hub id of the model that is trained.
            options: :func:`visual_rft.serving.vllm_options.rollout_options`.
            memory_share: of the GPU's memory, in (0, 1).

        Raises:
            ConfigError: if vLLM is not installed.
            ServerError: if it does not start.
        """
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as error:
            raise ConfigError(f"rollout.mode colocate needs vLLM in this environment ({error})") from None
        vllm_folder.register()
        where: dict[str, Any] = (
            {"enable_sleep_mode": True, "gpu_memory_utilization": memory_share, "max_model_len": -1}
            if torch.cuda.is_available() else {"enforce_eager": True}
        )  # fmt: skip
        with torch.random.fork_rng():  # it seeds every generator
            try:
                llm = LLM(model, **options, **where, disable_log_stats=True)
            except (RuntimeError, ValueError, OSError) as error:
                raise ServerError(printable(f"vLLM does not start {HERE}: {error}", limit=600)) from error
        return cls(llm, model)

    def sleep(self) -> None:
        """Give its memory back, and forget whatever it remembers of prompts and images."""
        if not self._asleep:
            self.llm.sleep(level=1)
            self._asleep = True

    def wake(self, part: str | None = None) -> None:
        """Take memory again: of the ``weights``, of the ``kv_cache``, or of both."""
        if self._asleep:
            self._asleep = not self.llm.wake_up([part] if part else None)

    def submit_all(
        self, questions: Sequence[Question], decodings: Sequence[Decoding], model: str
    ) -> list[Future[Reply]]:
        """The replies, which are there when this returns; vLLM then sleeps."""
        try:
            replies = self._replies(questions, decodings, model)
        finally:
            self.sleep()
        futures: list[Future[Reply]] = [Future() for _ in replies]
        for future, reply in zip(futures, replies, strict=True):
            future.set_result(reply)
        return futures

    def ask_one(self, url: str, question: Question, decoding: Decoding, model: str) -> Reply:
        """The reply to one question; vLLM stays awake."""
        return self._replies([question], [decoding], model)[0]

    def close(self) -> None:
        """End the engine. May be called again."""
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown()
            self.llm = None

    def _replies(self, questions: Sequence[Question], decodings: Sequence[Decoding], model: str) -> list[Reply]:
        self.wake()
        messages = [_messages(one, how) for one, how in zip(questions, decodings, strict=True)]
        settings = [sampling_params(how) for how in decodings]
        try:
            outputs = self.llm.chat(messages, settings, use_tqdm=False, lora_request=self.adapter)
        except (RuntimeError, ValueError) as error:
            raise ServerError(printable(f"vLLM {HERE}: {error}", limit=600)) from error
        version = None if self.adapter else self.llm.get_weight_version()
        return [read_output(output, model, version, how) for output, how in zip(outputs, decodings, strict=True)]


class ColocatedWeights:
    """The way of weights there: a :class:`~visual_rft.samplers.weights.Weights`.

    Args:
        engine: in this process.
        folder: for adapters, of which vLLM reads the newest as a file; whole weights need none.
    """

    def __init__(self, engine: Colocated, folder: Path | None = None) -> None:
        self.engine, self.folder = engine, folder
        self._begun = False

    def push(self, policy: Policy, version: int) -> str:
        """As :meth:`Weights.push`."""
        self.engine.sleep()  # forgets what it knows of the old ones
        if self.folder is None:
            self._push_tensors(policy, version)
            return self.engine.model
        from vllm.lora.request import LoRARequest

        name = f"policy-{version:06d}"
        place = written(policy, self.folder, version)
        self.engine.wake()
        self.engine.adapter = LoRARequest(name, version + 1, str(place))
        forget(self.folder, version)
        return name

    def check(self, version: int) -> None:
        """Nothing to ask: nobody else could have changed them, and an answer bears their version."""

    def _push_tensors(self, policy: Policy, version: int) -> None:
        llm = self.engine.llm
        self.engine.wake("weights")
        if not self._begun:
            llm.init_weight_transfer_engine({"init_info": {}})
            self._begun = True
        llm.start_weight_update()
        with torch.no_grad():
            llm.update_weights({"update_info": {"tensors": checkpoint_tensors(policy)}})
        llm.finish_weight_update(str(version))
        self.engine.wake("kv_cache")


def checkpoint_tensors(policy: Policy) -> Iterable[tuple[str, Tensor]]:
    """The policy's weights by the names that a checkpoint has, which holds of tied ones only that they are tied to."""
    from transformers.core_model_loading import revert_weight_conversion

    tied = policy.model.all_tied_weights_keys
    own = {name: tensor for name, tensor in policy.model.state_dict().items() if name not in tied}
    named: dict[str, Tensor] = revert_weight_conversion(policy.model, own)
    return named.items()


def sampling_params(decoding: Decoding) -> Any:
    """vLLM's own form of how to answer."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        n=decoding.n, temperature=decoding.temperature, top_p=decoding.top_p, top_k=decoding.top_k, seed=decoding.seed,
        max_tokens=decoding.max_tokens, logprobs=0, logit_bias=dict.fromkeys(decoding.forbidden, -100.0) or None,
        structured_outputs=StructuredOutputsParams(**decoding.form) if decoding.form else None,
    )  # fmt: skip


def read_output(output: Any, model: str, version: str | None, decoding: Decoding) -> Reply:
    """One of vLLM's outputs as a reply.

    Raises:
        ServerError: if completions are missing.
    """
    rows = output.outputs
    if len(rows) != decoding.n:
        raise ServerError(f"vLLM {HERE}: {len(rows)} completions came back, {decoding.n} were asked for")
    said = [[now[token].logprob for token, now in zip(row.token_ids, row.logprobs, strict=True)] for row in rows]
    return Reply(
        texts=tuple(row.text for row in rows),
        cut=tuple(row.finish_reason == "length" for row in rows),
        ids=tuple(tuple(row.token_ids) for row in rows),
        logprobs=tuple(map(tuple, said)),
        prompt_ids=tuple(output.prompt_token_ids),
        model=model,
        version=version,
    )


def _messages(question: Question, decoding: Decoding) -> Any:
    body = decoding.body("", question.text, [data_url(image) for image in question.images])
    return body["messages"]
