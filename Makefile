# make demo: from nothing to results/demo/report.html. make test: the test suite.
# Neither asks a question; both need Python 3.11 or 3.12 with venv, and make.

PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	2>/dev/null && echo $$p && break; done)
# Another index for PyTorch's wheels: make TORCH_INDEX=URL install
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed
RUN := $(BIN)/pde-sym

.PHONY: install demo test faults slow mutation sweeps compiled browser peers lint docs study clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

# torch goes first and by itself: its version is exact, nothing else may move it.
# escnn goes in without its dependencies: it declares py3nj, which has no wheel, needs
# a Fortran compiler, and is not needed at run time; its real needs stand before it.
# So does rocket-fft: it asks for NumPy 2, which escnn cannot have, and runs without.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 not found; make PYTHON=path" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"$(PYTHON) is Python {v[0]}.{v[1]}; 3.11 or 3.12 is needed: make PYTHON=path")'
	@echo "installing into $(VENV): about a minute besides the downloads"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(PIP) install -c constraints.txt numpy scipy numba h5py pydantic pyyaml safetensors \
		distributed matplotlib rich threadpoolctl lie_learn joblib autograd pymanopt \
		pytest pytest-xdist hypothesis ruff pyright
	$(PIP) install --no-deps escnn==1.0.11 rocket-fft==0.4.1
	$(PIP) install --no-deps -e .
	@touch $@

# A process for each core; what a file of tests makes once is made in one of them.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

# Kills, full disks and hostile files, at every place of what `test` takes samples of.
faults: $(INSTALLED)
	$(BIN)/python -m pytest -m faults -n logical --maxprocesses 2 -v -rfEP

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# Small defects in store, seeds, checkpoints and resume, and whether their tests see them.
mutation: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutation.py --seed $(or $(SEED),0)

# The tables and figures of experiments/results, from nothing or from where it stopped:
# hours. Sweeps do not ask for more than a core; `make -j2 sweeps` takes two.
PHASES := beta-plane flow-buoyancy flow-topography flow-obstacle heat-anisotropy \
	heat-bubbles kdv-bathymetry kdv-damping body-gravity body-asymmetry plume-rotation \
	plume-translation
SWEEPS := $(PHASES) heat-bubbles-given kdv-kawahara body-friction flow-aligned kdv-sizes \
	heat-families
KEPT := experiments/results
sweeps: $(SWEEPS:%=sweep-%)
	$(RUN) report $(PHASES:%=results/%)
	cp results/figures/ratios.png results/figures/defects.png $(KEPT)/
$(SWEEPS:%=sweep-%): sweep-%: $(INSTALLED)
	TERM=dumb $(RUN) sweep $* --out results/$*
	$(RUN) report results/$*
	mkdir -p $(KEPT)/$*
	cp results/$*/table.csv results/$*/summary.json $(KEPT)/$*/
	for figure in phase ratio defect spectrum conservation size cost; do \
		cp results/$*/figures/$$figure.png $(KEPT)/$*/ 2>/dev/null || true; done

compiled: $(INSTALLED)
	$(BIN)/python -m pytest -m compiled

# The pages in a headless browser, which node brings; screenshots in results/browser.
BROWSER := tests/browser/node_modules
$(BROWSER)/.installed: tests/browser/package-lock.json
	npm ci --prefix tests/browser --no-audit --no-fund
	@touch $@

browser: $(INSTALLED) $(BROWSER)/.installed
	$(BIN)/python -m pytest -m browser tests/test_browser.py

# The clients of The Well and of neuraloperator read a data set of ours, each item bit
# for bit. They have an environment of their own: one pins an old fsspec.
PEERS := .venv-peers
$(PEERS)/.installed: $(INSTALLED)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip --quiet install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(PEERS)/bin/pip --quiet install the-well==1.2.0 neuraloperator==2.0.0 requests pydantic
	@touch $@

peers: $(PEERS)/.installed
	rm -rf results/peers
	$(RUN) generate flow --break topography=0.5 --environment given --resolution 16 \
		--set initial.modes=3 --frames 5 --train 3 --valid 2 --test 2 \
		--set shard_size=2 --out results/peers/flow
	$(RUN) export results/peers/flow --to well --out results/peers/export
	PYTHONPATH=. $(PEERS)/bin/python tests/check_well_client.py results/peers/flow
	PYTHONPATH=. $(PEERS)/bin/python tests/check_neuralop_client.py results/peers/flow \
		results/peers/export

# The last line fails when a public name has no complete type.
lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes pde_sym --ignoreexternal

# The site, into docs/_build/html: pages are executed where their code has changed, and
# every link and anchor in it is followed.
# What it needs is installed now, beside the rest: the optional group `docs`.
DOCS_INSTALLED := $(VENV)/.docs
DOCS_NEEDS := import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])

$(DOCS_INSTALLED): $(INSTALLED)
	$(PIP) install -c constraints.txt $$($(BIN)/python -c '$(DOCS_NEEDS)')
	@touch $@

docs: $(DOCS_INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees \
		docs docs/_build/html
	$(BIN)/python docs/links.py docs/_build/html

# The demo: a conductor with bubbles, three surrogates, one page. The surrogates are
# trained two at a time, one thread each; what is finished is not done again.
DEMO := results/demo
DEMO_MODELS := modulated strict cnn
DEMO_UPDATES ?= 400

demo: $(INSTALLED)
	@$(MAKE) --no-print-directory -j2 demo-runs
	$(RUN) evaluate $(DEMO_MODELS:%=$(DEMO)/%)
	$(RUN) report $(DEMO)

.PHONY: demo-data demo-runs $(DEMO_MODELS:%=demo-%)
demo-data: $(INSTALLED)
	$(RUN) generate heat --break bubbles=0.9 --resolution 32 --frames 21 \
		--train 16 --valid 8 --test 16 --seed 0 --out $(DEMO)/data
demo-runs: $(DEMO_MODELS:%=demo-%)
$(DEMO_MODELS:%=demo-%): demo-%: demo-data
	TERM=dumb $(RUN) train --data $(DEMO)/data --model $* --match-parameters 28000 \
		--updates $(DEMO_UPDATES) --seed 0 --out $(DEMO)/$*

# The comparison of the demo over five seeds and twice the updates: about an hour.
STUDY := results/bubbles
SEEDS := 0 1 2 3 4
STUDY_RUNS := $(foreach seed,$(SEEDS),$(foreach model,$(DEMO_MODELS),$(model)-$(seed)))

study: $(INSTALLED)
	@$(MAKE) --no-print-directory -j2 study-runs
	$(RUN) evaluate $(STUDY_RUNS:%=$(STUDY)/%)
	$(RUN) report $(STUDY)

.PHONY: study-data study-runs $(STUDY_RUNS:%=study-%)
study-data: $(INSTALLED)
	$(RUN) generate heat --break bubbles=0.9 --resolution 32 --frames 21 \
		--train 16 --valid 8 --test 16 --seed 0 --out $(STUDY)/data
study-runs: $(STUDY_RUNS:%=study-%)
$(STUDY_RUNS:%=study-%): study-%: study-data
	TERM=dumb $(RUN) train --data $(STUDY)/data --model $(firstword $(subst -, ,$*)) \
		--match-parameters 28000 --updates 800 --seed $(lastword $(subst -, ,$*)) \
		--out $(STUDY)/$*

clean:
	rm -rf results/demo
