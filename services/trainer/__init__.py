"""Turns a prepared dataset into a LoRA adapter: launches, watches and resumes training jobs. Needs no torch itself."""
