"""The only code that several services share: settings, manifest, progress, hardware, logs and the engine's wire."""

VERSION = "0.1.0"
