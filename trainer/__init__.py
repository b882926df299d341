"""CLIP: streams published shards, trains, evaluates zero-shot."""

import os

# Read when torch is first imported. By default OpenMP's threads spin while they wait: on two cores that others use too
# a step of the demo model then takes 1,200 to 1,900 ms (and 750 ms of CPU), with sleeping threads 140 to 400 (200).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
