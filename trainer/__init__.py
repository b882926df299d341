"""CLIP: streams published shards, trains, evaluates zero-shot."""

import os

# OpenMP reads this when torch is first imported. By default its threads spin while they wait: on two cores that others use too,
# a step of the demo model then takes 1,200 to 1,900 ms (750 ms of CPU). With sleeping threads it takes 140 to 400 ms (200).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
