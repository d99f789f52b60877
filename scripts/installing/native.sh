# shellcheck shell=sh
die "an installation without Docker is not in this bundle"
