"""A small model server on transformers and PEFT, for machines without vLLM.

It answers OpenAI's API and vLLM's calls for loading and unloading LoRA adapters, so that the agent and the gateway
cannot tell it from vLLM. One worker thread owns the model and decodes all running requests together, whatever
adapters they ask for; the HTTP side only parses, waits and formats.
"""
