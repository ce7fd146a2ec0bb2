"""In a vLLM server: a way to take new weights out of a folder (the backend ``folder`` of its weight transfer).

Decision: the only way that needs neither a GPU nor a process group: a checkpoint in safetensors, whose folder is named
by ``{"path": FOLDER}``, or within one process its tensors by name. vLLM finds it by the entry point
``vllm.general_plugins`` of this package. On a CPU the *tied* output embedding keeps a product that was packed from the
old weights after a reload, and answers 200 with wrong probabilities; so it is packed again.

    vllm serve MODEL --weight-transfer-config '{"backend": "folder"}'
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "folder"


def register() -> None:
    """Make the backend known; may be called in every process of a server."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if NAME not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(NAME, _engine())


def _engine() -> Any:
    """The class, made where vLLM is there to be subclassed."""
    from safetensors.torch import load_file
    from vllm.distributed.weight_transfer.base import (
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    @dataclass
    class FolderInit(WeightTransferInitInfo):  # type: ignore[misc, unused-ignore]
        """Nothing has to be agreed."""

    @dataclass
    class FolderUpdate(WeightTransferUpdateInfo):  # type: ignore[misc, unused-ignore]
        """A folder with ``*.safetensors`` of a checkpoint, or in this process what would be in it."""

        path: str = ""
        tensors: Any = None

    class FolderEngine(WeightTransferEngine):  # type: ignore[misc, unused-ignore]
        """Reloads a checkpoint, layer by layer."""

        init_info_cls = FolderInit
        update_info_cls = FolderUpdate

        def init_transfer_engine(self, init_info: FolderInit) -> None:
            """Nothing to do."""

        def start_weight_update(self) -> None:
            """The layers expect weights as a checkpoint has them."""
            initialize_layerwise_reload(self.model)

        def receive_weights(self, update_info: FolderUpdate) -> None:
            """Load what is given, or every file of the folder."""
            if update_info.tensors is not None:
                self.model.load_weights(iter(update_info.tensors))
                return
            files = sorted(Path(update_info.path).glob("*.safetensors"))
            if not files:
                raise ValueError(f"{update_info.path}: holds no *.safetensors")
            for file in files:
                self.model.load_weights(iter(load_file(file).items()))

        def finish_weight_update(self) -> None:
            """Weights as the kernels want them; the output embedding of a CPU anew."""
            finalize_layerwise_reload(self.model, self.model_config)
            if self.device.type == "cpu":
                repack(self.model)

        def shutdown(self) -> None:
            """Nothing is held."""

    return FolderEngine


def repack(model: Any) -> None:
    """Pack the output embeddings of a model on a CPU again."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for module in model.modules():
        if type(module).__name__ == "ParallelLMHead" and hasattr(module, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)
