"""Lets `python -m scripts.benchmark` find its package; the other scripts are programs of their own."""
