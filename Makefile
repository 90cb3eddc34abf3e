# Two commands do everything, set-up included: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
INSTALLED := .venv/.installed
export PYTHONUNBUFFERED := 1

help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt .ci/install.sh
	@.ci/install.sh
	@touch $@

install: $(INSTALLED) ## Make .venv with everything in it.

install-vllm: ## Make .venv-vllm with vLLM for CPUs in it (3.5 GB).
	@.ci/install-vllm.sh

demo: $(INSTALLED) $(if $(VLLM),install-vllm) ## The whole loop, for real, in ten minutes. FAST=1: a tiny model, in three. VLLM=1: on vLLM.
	@$(PY) -m services.cli demo $(if $(FAST),--fast) $(if $(VLLM),--vllm)

test: lint unit simulation integration e2e chaos test-vllm ## All checks and all tests against real components.

lint: $(INSTALLED) ## ruff, mypy --strict, import-linter, generated files.
	$(PY) -m ruff check .
	$(PY) -m mypy services shared tests docs benchmarks
	.venv/bin/lint-imports
	$(PY) -m shared.events.generate --check
	$(PY) -m shared.docs.pipeline --check
	$(PY) -m shared.docs.matrix --check
	$(PY) -m services.cli.docs --check
	$(PY) docs/settings.py --check
	$(PY) -m docs.chart --check
	$(PY) -m docs.dashboards --check

unit: $(INSTALLED) ## Pure tests, on all cores: about a minute on two.
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/unit -q -n auto --dist worksteal

simulation: $(INSTALLED) ## What the statistics promise, over hundreds of seeded rollouts and runs.
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/simulation -q -n auto --dist worksteal

integration: $(INSTALLED) ## Against a real broker, S3, PostgreSQL and Prometheus; what computes with torch, too.
	@# What takes minutes comes first and what takes seconds last, so that no core waits for the other at the end.
	@# Three on two cores, because nearly half of the time is spent waiting for other processes.
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/integration/trainer tests/integration/serving tests/integration \
	  tests/contract tests/tensors -q -n 3 --durations=10 --dist loadfile --no-loadscope-reorder

e2e: $(INSTALLED) ## The whole loop on the real stack.
	$(PY) -m pytest tests/e2e -q

test-cluster: $(INSTALLED) ## Against the Kubernetes cluster in TUNELOOP_TEST_KUBECONFIG.
	$(PY) -m pytest tests/contract -m kubernetes -q

chaos: $(INSTALLED) ## SIGKILL in the middle of everything.
	$(PY) -m pytest tests/chaos -q

test-vllm: $(INSTALLED) install-vllm ## Against real vLLM, which it installs first.
	$(PY) -m pytest tests/vllm -q

generate: $(INSTALLED) ## Rewrite generated files.
	$(PY) -m shared.events.generate
	$(PY) -m shared.docs.pipeline
	$(PY) -m shared.docs.matrix
	$(PY) -m services.cli.docs
	$(PY) docs/settings.py
	$(PY) -m docs.chart
	$(PY) -m docs.dashboards

bench-gateway: $(INSTALLED) ## The gateway beside vllm-router and LiteLLM; ROUNDS=5.
	$(PY) -m benchmarks.gateway --rounds $(or $(ROUNDS),5)

bench-rollout: $(INSTALLED) ## 200 rollouts on one controller, and how soon harm ends; ROLLOUTS=200 TICKS=10 DATABASE=sqlite.
	$(PY) -m benchmarks.rollout --rollouts $(or $(ROLLOUTS),200) --ticks $(or $(TICKS),10) --database $(or $(DATABASE),sqlite)
	$(PY) -m benchmarks.rollout.withdrawal

bench-estimate: $(INSTALLED) ## Estimated peaks of memory against measured ones; ONLY=tiny, PROCESS=1.
	$(PY) -m benchmarks.estimate $(if $(ONLY),--only $(ONLY)) $(if $(PROCESS),--process)

bench-training: $(INSTALLED) ## The trainer beside TRL's, LLaMA-Factory's and axolotl's; ROUNDS=3 ROWS=64 KIND=tickets MODEL=tiny.
	$(PY) -m benchmarks.training --rounds $(or $(ROUNDS),3) --rows $(or $(ROWS),64) --kind $(or $(KIND),tickets) \
	  $(if $(MODEL),--model $(MODEL))

bench-intents: $(INSTALLED) ## SmolLM2 learns six intents of a CSV: exact match before and after; ROWS=train.csv.
	$(PY) -m benchmarks.intents $(ROWS)

bench-forgetting: $(INSTALLED) ## What is left of a task when another is learned, by each remedy. 20 minutes of one core; WORKERS=2.
	$(PY) -m benchmarks.forgetting --workers $(or $(WORKERS),1)

bench-trainer: $(INSTALLED) ## All bars of the trainer in turn, and which of them hold; an hour. ROWS=train.csv ROUNDS=3 TICKETS=16.
	$(PY) -m benchmarks.trainer $(ROWS) --rounds $(or $(ROUNDS),3) --tickets $(or $(TICKETS),16)

bench-gpu: $(INSTALLED) ## Tokens a second and MFU of training on a GPU; SHAPE=llama-3.2-1b METHOD=lora ROUNDS=3.
	$(PY) -m benchmarks.gpu --shape $(or $(SHAPE),llama-3.2-1b) --method $(or $(METHOD),lora) --rounds $(or $(ROUNDS),3)

calibrate: $(INSTALLED) ## What the controller promises, measured beside others; SEED=1. Minutes of one core.
	$(PY) -m benchmarks.calibration --seed $(or $(SEED),1)

clean: ## Remove the local stack's state and the virtual environments.
	rm -rf .tuneloop .venv .venv-bench .venv-vllm

.PHONY: help install install-vllm demo test lint unit simulation integration e2e chaos test-vllm test-cluster generate bench-gateway bench-gpu bench-rollout bench-estimate bench-forgetting bench-intents bench-trainer bench-training calibrate clean
