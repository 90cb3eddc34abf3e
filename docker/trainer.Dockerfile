# What training and evaluation jobs run, and the small engine:
#   docker build -f docker/trainer.Dockerfile -t tuneloop/trainer .
# CUDA's libraries come with torch's own wheel, so a base image that has them too would be twice as large; the driver
# comes from the node. Where a compiler for CUDA is wanted, give another base that has Python 3.11 or newer:
#   --build-arg PYTHON_IMAGE=… ; a release pins it by digest.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ARG EXTRAS=trainer,training-job,evaluator,evaluation-job,engine
# Another index of packages, such as PyTorch's own of builds for CPUs, which are a tenth of the size.
ARG PIP_EXTRA_INDEX_URL=""
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
LABEL org.opencontainers.image.title="tuneloop trainer" org.opencontainers.image.licenses="Apache-2.0"
# The folders are where volumes are mounted: a new one of Docker's takes over their owner.
RUN groupadd --gid 10001 tuneloop \
    && useradd --uid 10001 --gid tuneloop --create-home --shell /usr/sbin/nologin tuneloop \
    && install --directory --owner tuneloop --group tuneloop /cache /jobs /state /work
COPY --from=build /opt/tuneloop /opt/tuneloop
# The driver's libraries for computing, and nvidia-smi. Which GPUs, the device plugin says: with `all` here, a pod that
# asked for none would take those of others.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH=/opt/tuneloop/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /home/tuneloop
# No HEALTHCHECK: a job has no door, and its launcher sees its end.
ENTRYPOINT ["python", "-m"]
