"""Measures OpenAI-compatible endpoints side by side; scripts/bench is its command."""
