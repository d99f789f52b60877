"""What scripts/bundle runs inside of containers, each file by itself with what its image has; and `install`, the bundle's own."""
