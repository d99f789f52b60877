"""Prepare a model: fetch → verify → convert → quantize → check → publish. The only service with a way out."""
