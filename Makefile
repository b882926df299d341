# Two commands: `make demo` and `make test`. Both install into .venv first, with pinned versions and binary wheels only.

PYTHON ?= python3
RUN := .venv/bin/python
OUT ?= out/demo

.PHONY: demo test test-slow test-exits test-stores test-spark test-flink test-prism test-interop simulate stats check format lint types bench-candidates bench-download bench-scale driver prefixes report verify growth width skew build clean

.venv: .venv/installed
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --only-binary=:all: --constraint constraints.txt 'setuptools>=77' wheel
	$(RUN) -m pip install --quiet --only-binary=:all: --no-build-isolation --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv
	$(RUN) -m pipelines.build --queries queries/500k.txt --output $(OUT)
	$(RUN) -m wit.demo.zero_shot $(OUT)/zero-shot
	$(RUN) -m trainer.train --shards $(OUT)/shards --model demo --output $(OUT)/model
	$(RUN) -m trainer.train --shards $(OUT)/shards --model demo --output $(OUT)/model/control --shuffle-captions --epochs 4
	$(RUN) -m trainer.evaluate --checkpoint $(OUT)/model --dataset $(OUT)/zero-shot --nearest-in $(OUT)/shards
	$(RUN) -m trainer.evaluate --checkpoint $(OUT)/model/control --dataset $(OUT)/zero-shot
	@$(RUN) -m pipelines.show $(OUT) $(OUT)/model/zero-shot-zero-shot.json $(OUT)/model/control/zero-shot-zero-shot.json

test: .venv check

test-slow: .venv
	$(RUN) -m pytest -m slow

test-exits: .venv
	$(RUN) tests/exits.py $(if $(TIMES),--times $(TIMES))

simulate: .venv
	$(RUN) -m tests.simulate $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST))

# MinIO and fake-gcs-server on loopback: taken from the folder WIT_SERVERS, or built once by Go into build/servers.
test-stores: .venv
	$(RUN) -m pip install --quiet --only-binary=:all: --no-build-isolation --constraint constraints.txt --editable '.[stores]'
	$(RUN) -m pytest -m stores tests/stores_real

# The demonstration web on a real engine. What the engine is made of is taken from the folder WIT_ENGINES, by default
# ~/.cache/wit/engines, and fetched where it is not there: by Maven, Go and pip. Spark builds into MinIO, too.
test-spark test-flink test-prism: .venv
	$(RUN) -m pip install --quiet --only-binary=:all: --no-build-isolation --constraint constraints.txt --editable '.[stores]'
	$(RUN) -m pytest -m $(@:test-%=%) tests/engines

# What docs/interop.md shows of Daft and Spark, each in an environment of its own in build/interop; Spark needs Java.
test-interop: .venv
	$(RUN) -m pytest -m interop tests/interop

stats:
	@$(RUN) tests/stats.py

check: format lint types
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(RUN) -m tests.simulate

format:
	.venv/bin/ruff format --check .

lint:
	.venv/bin/ruff check .

types:
	.venv/bin/mypy --strict wit

bench-candidates: .venv
	$(RUN) benchmarks/bench_candidates.py $(if $(WAT),--wat $(WAT)) $(if $(QUERIES),--queries $(QUERIES))

bench-download: .venv
	$(RUN) benchmarks/bench_download.py $(if $(CORPUS),--corpus $(CORPUS))

# `make bench-scale driver`, prefixes, report, verify, growth, width, skew or build
bench-scale: .venv
	$(RUN) benchmarks/bench_scale.py $(or $(filter-out $@,$(MAKECMDGOALS)),driver) $(if $(BEFORE),--before $(BEFORE))

ifneq ($(filter bench-scale,$(MAKECMDGOALS)),)
driver prefixes report verify growth width skew build:
	@:
endif

clean:
	rm -rf out build .mypy_cache .ruff_cache .pytest_cache .hypothesis
