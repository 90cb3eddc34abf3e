# All services of the control plane, and the adapter agent:
#   docker build -f docker/control-plane.Dockerfile -t tuneloop/control-plane .
# One service alone, smaller:
#   docker build -f docker/control-plane.Dockerfile --build-arg EXTRAS=gateway -t tuneloop/gateway .
# A release pins the base: --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:…
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ARG EXTRAS=data-ingest,trainer,evaluator,registry,rollout,drift,serving,gateway
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docker/requirements.py docker/
RUN python -m venv /opt/tuneloop \
    && python docker/requirements.py "$EXTRAS" > /tmp/requirements.txt \
    && /opt/tuneloop/bin/pip install --constraint constraints.txt --requirement /tmp/requirements.txt
COPY services services
COPY shared shared
RUN /opt/tuneloop/bin/pip install --no-deps .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="tuneloop control plane" org.opencontainers.image.licenses="Apache-2.0"
# The folders are where volumes are mounted: a new one of Docker's takes over their owner.
RUN groupadd --gid 10001 tuneloop \
    && useradd --uid 10001 --gid tuneloop --create-home --shell /usr/sbin/nologin tuneloop \
    && install --directory --owner tuneloop --group tuneloop /cache /jobs /state /work
COPY --from=build /opt/tuneloop /opt/tuneloop
ENV PATH=/opt/tuneloop/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /home/tuneloop
# Kubernetes has probes of its own; this one is for Docker and compose.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"TUNELOOP_HTTP_PORT\", \"8080\")}/healthz', timeout=4)"]
ENTRYPOINT ["python", "-m"]
