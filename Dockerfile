# visual-rft in a container, for a CPU or an NVIDIA GPU.
#
#   docker build -t visual-rft .
#   docker run --rm -it -v "$PWD:/workspace" visual-rft demo --folder runs/demo
#   docker run --rm -it --gpus all -v "$PWD:/workspace" visual-rft train run.yaml
#
# PyTorch as it is published brings its own CUDA libraries, so the same image runs with and without a GPU. Where an index
# of CPU builds is at hand, the image is about 5 GB smaller: --build-arg TORCH_INDEX=URL --build-arg TORCH_LOCAL=+cpu
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=""
ARG TORCH_LOCAL=""
# Extras of pyproject.toml, e.g. [app]
ARG EXTRAS=""

WORKDIR /opt/visual-rft
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# With an index of CPU builds, torch and torchvision come from there first; the versions stay those of constraints.txt.
RUN if [ -n "$TORCH_INDEX" ]; then \
        sed -nE "s/^(torch|torchvision)==([0-9.]+).*/\1==\2${TORCH_LOCAL}/p" constraints.txt > torch.txt \
        && pip install --no-cache-dir --index-url "$TORCH_INDEX" -r torch.txt \
        && sed -i -E "/^(torch|torchvision)==/d" constraints.txt; \
    fi \
    && pip install --no-cache-dir -c constraints.txt ".${EXTRAS}"

# Models, runs and data belong to whoever runs it, not to root.
RUN useradd --create-home --uid 1000 trainer
USER 1000
ENV HF_HOME=/workspace/.cache/huggingface
WORKDIR /workspace
ENTRYPOINT ["visual-rft"]
CMD ["--help"]
