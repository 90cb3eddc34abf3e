"""vLLM as the model server: its base model from S3, and the arguments and variables that adapters need.

    python -m services.serving.vllm_server

It becomes vLLM itself (exec), so whoever started it watches, signals and restarts vLLM. docs/serving.md says why each
argument is there.
"""
