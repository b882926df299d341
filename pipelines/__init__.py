"""Beam wiring: one module a stage, no domain logic."""

import logging
import os

# Before anything imports numpy: nothing here does linear algebra, yet its pool of threads for that spins at the start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Without the Google extra Beam warns at import of libraries that no local build needs.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
