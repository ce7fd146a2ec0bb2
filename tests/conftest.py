"""Fixtures shared by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.pool import Pool
from support.tiny_models import FAMILIES, UNLISTED, random_model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small tensors: a second thread costs more than it gives, and results do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each family's tiny random model saved as a folder."""
    folders = {}
    for kind in (*FAMILIES, UNLISTED):
        folders[kind] = tmp_path_factory.mktemp(kind)
        model, processor = random_model(kind)
        model.save_pretrained(folders[kind])
        processor.save_pretrained(folders[kind])
    return folders


@pytest.fixture(scope="session")
def two() -> Iterator[Pool]:
    """Two processes of one run, started once for all tests of a worker."""
    with Pool(2) as pool:
        yield pool
