"""Measures OpenAI-compatible endpoints side by side, or this machine with its prepared model; scripts/bench is its command."""
