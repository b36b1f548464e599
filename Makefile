# Skipwise: `make demo` shows it, `make test` proves it. Both do all set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
# At a terminal pip shows what it fetches and how far it is; in a pipe it is quiet.
PIP := -m pip install $(shell test -t 2 || echo --quiet) --disable-pip-version-check

.PHONY: setup distributed spark browser pictures demo test check format bench-data bench-evaluation bench-experiments bench-loop bench-offpolicy bench-quality bench-serve bench-simulate bench-train bench-trials bench-freshness bench-takeover bench-growth fuzz soak clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here; Skipwise needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing torch and all that Skipwise and its tests need into .venv: some 2.6 GB on disk, minutes"
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

# TorchRec, for `torchrun -m skipwise train`: without its own dependencies, which ask for CUDA.
distributed: .venv/.distributed
.venv/.distributed: $(STAMP)
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[distributed]'
	$(BIN)/python $(PIP) --no-deps torchrec==1.8.0
	@touch $@

# Spark and what Ibis needs for it: the extra [spark]. Java 17 or 21 must be there.
spark: .venv/.spark
.venv/.spark: $(STAMP)
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[spark]'
	@touch $@

# What the tests of the page need of npm; node and chromium are the system's (Debian: nodejs, npm, chromium).
browser: tests/browser/node_modules/.installed
tests/browser/node_modules/.installed: tests/browser/package-lock.json
	npm ci --prefix tests/browser --no-audit --no-fund --silent
	@touch $@

pictures: setup browser   # those of the README, of what `make demo` made
	node tests/browser/portraits.mjs $(BIN)/skipwise demo/run docs/pictures

demo: setup
	$(BIN)/skipwise demo --out demo

test: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal   # for two cores: tests wait for their servers a third of the time

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-experiments: setup   # 1,000 A/A runs, planted effects, lost viewers
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.experiments

bench-freshness: setup   # event -> in a live model, seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.freshness

bench-takeover: setup   # do requests wait while a published model is taken up?
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.takeover

bench-trials: setup   # how often a model is rolled back, worse or not
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.trials

bench-loop: setup   # simulated viewers served by the real pipeline; under half an hour, resumes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.loop

bench-simulate: setup   # impressions a second; fails below what is promised
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.simulate

bench-offpolicy: setup   # off-policy estimates against the truth, four of them
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.offpolicy

bench-evaluation: setup
	$(BIN)/python -m benchmarks.evaluation

fuzz: setup   # every way in, 1,000 cases each
	SKIPWISE_FUZZ_CASES=1000 $(BIN)/python -m pytest -n 0 tests/serving/test_fuzz.py

soak: setup   # ten minutes of load; memory must stay flat
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak

bench-serve: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serve

bench-quality: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality

# Peers run in environments of their own, on the same torch.
benchmarks/peers/.venv-rechub: PEER := torch-rechub==0.9.0
benchmarks/peers/.venv-deepctr: PEER := deepctr-torch==0.3.0 requests
benchmarks/peers/.venv-%:
	rm -rf $@ $@.part
	$(PYTHON) -m venv $@.part
	$@.part/bin/python $(PIP) torch==2.13.0 $(PEER)
	mv $@.part $@

bench-train: setup benchmarks/peers/.venv-rechub benchmarks/peers/.venv-deepctr
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.train

bench-growth: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.growth

bench-data: spark
	$(BIN)/python -m benchmarks.data

clean:
	rm -rf .venv demo benchmarks/out benchmarks/peers/.venv-*
