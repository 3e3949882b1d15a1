# An image of this package, and one of a model server beside it; both run as a user without rights and ask no hub unless
# told to. docs/cluster.md says how to build and run them, with Docker and with Apptainer.
#   docker build --target train --tag aot-distill .
#   docker build --target serve --tag aot-vllm .
# BASE is any image of Debian or Ubuntu that has python3.12 or can install it. The wheels bring the libraries of CUDA
# themselves; where DeepSpeed or Triton shall compile kernels of their own, take one with its compiler:
#   docker build --build-arg BASE=nvidia/cuda:13.0.1-devel-ubuntu24.04 --target train --tag aot-distill .
ARG BASE=python:3.12.12-slim-bookworm

FROM ${BASE} AS python
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# gcc is what Triton needs at run time. Versions of Debian's packages are those of the base image's release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc g++ libc6-dev \
 && if ! command -v python3.12; then apt-get install --yes --no-install-recommends python3.12 python3.12-dev python3.12-venv; fi \
 && rm -rf /var/lib/apt/lists/* \
 && python3.12 -m venv /opt/venv \
 && mkdir /data \
 && chown 10001:10001 /data
ENV PATH=/opt/venv/bin:$PATH \
    HF_HOME=/data/huggingface \
    TRITON_CACHE_DIR=/tmp/triton \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    PYTHONUNBUFFERED=1

FROM python AS serve
COPY locks/serve_vllm.txt /opt/locks/
RUN pip install --no-cache-dir --require-hashes --requirement /opt/locks/serve_vllm.txt
USER 10001:10001
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["vllm", "serve"]

FROM python AS train
COPY locks/train.txt /opt/locks/
RUN pip install --no-cache-dir --require-hashes --requirement /opt/locks/train.txt
COPY pyproject.toml README.md LICENSE /opt/aot-distill/
COPY aot /opt/aot-distill/aot
COPY video_data /opt/aot-distill/video_data
COPY text_cot /opt/aot-distill/text_cot
COPY configs /opt/aot-distill/configs
COPY scripts /opt/aot-distill/scripts
WORKDIR /opt/aot-distill
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["aot"]
CMD ["--help"]
