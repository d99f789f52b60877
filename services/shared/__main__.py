"""`python -m services.shared`: check the settings and print them as SECTION_KEY='value' lines for the shell scripts."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys

from services.shared import settings


def main() -> int:
    """Exit codes: 0 good, 2 a setting is wrong (the sentence goes to standard error)."""
    try:
        config = settings.load(os.environ)
    except settings.SettingsError as error:
        sys.stderr.write(f"cloister: {error}\n")
        return 2
    for section in dataclasses.fields(config):
        for key, value in vars(getattr(config, section.name)).items():
            sys.stdout.write(f"{section.name.upper()}_{key.upper()}={shlex.quote(str(value))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
