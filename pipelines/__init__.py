"""Beam wiring: one module a stage, no domain logic."""

import logging

# Without the Google extra Beam warns at import of libraries that no local build needs.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
