# vLLM with tuneloop's resolver plugin, and with the adapter agent's drain:
#   docker build -f docker/vllm.Dockerfile -t tuneloop/vllm .
# A release pins the base: --build-arg VLLM_IMAGE=vllm/vllm-openai:v0.32.0@sha256:…
ARG PYTHON_IMAGE=python:3.12-slim
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY docker/requirements.py docker/
RUN python docker/requirements.py --only vllm > /requirements.txt
COPY services services
COPY shared shared
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM ${VLLM_IMAGE}
LABEL org.opencontainers.image.title="tuneloop vLLM" org.opencontainers.image.licenses="Apache-2.0"
# vLLM pins its own packages elsewhere than tuneloop does: what is there stays as it is, and ours comes without its own.
RUN --mount=type=bind,from=build,source=/,target=/build \
    python3 -m pip list --format=freeze > /tmp/installed.txt \
    && python3 -m pip install --no-cache-dir --constraint /tmp/installed.txt --requirement /build/requirements.txt \
    && python3 -m pip install --no-cache-dir --no-deps /build/wheels/*.whl \
    && rm /tmp/installed.txt \
    && python3 -c 'import services.serving.vllm_plugin, services.serving.vllm_server.settings' \
    && groupadd --gid 10001 tuneloop \
    && useradd --uid 10001 --gid tuneloop --create-home --shell /usr/sbin/nologin tuneloop
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
USER 10001:10001
WORKDIR /home/tuneloop
# Loading a large model takes minutes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20m --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"TUNELOOP_HTTP_PORT\", \"8080\")}/health', timeout=4)"]
ENTRYPOINT ["python3", "-m"]
CMD ["services.serving.vllm_server"]
