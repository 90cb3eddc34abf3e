"""The rules that services/rollout/decide.py asks at each look, by what they do to the candidate's traffic. Pure."""
