"""What scripts/doctor finds out about this machine and what runs on it; one topic a file."""
