"""What scripts/update finds out: is there something newer than what is here, or a known vulnerability in it; one topic a file."""
