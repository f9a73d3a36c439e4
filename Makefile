# Two commands: `make book` builds the book, `make test` checks it. Both set up .venv themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: book test lint inspect bench smoke clean lock readme pretrain tinker web

book: $(READY)  ## execute what has changed and render _build/html
	$(BIN)/panelbook build

test: $(READY)  ## the whole suite, including a book built and opened in a browser where one is installed
	$(BIN)/pytest -n logical --dist loadfile

lint: $(READY)  ## style, types, and which room may import which
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

smoke: $(READY)  ## the same book with few resamples, for continuous integration
	$(BIN)/panelbook build --profile smoke

pretrain: $(READY)  ## make the miniature's weights again from their seed and hold them to the committed ones
	$(BIN)/pytest -m pretrain

tinker: $(READY)  ## run protocol, agreement and smoke profile against a server of one's own; the first run installs it
	$(BIN)/python tests/service/server.py
	PYTHONPATH=$(CURDIR)/_build/skyrl/sdk $(BIN)/pytest -m service -rs tests/service

inspect: $(READY)  ## test the export to Inspect AI with its own package, kept apart: it would move pinned versions
	$(BIN)/pip install --quiet --upgrade --target _build/inspect-ai 'inspect-ai>=0.3.285,<0.4'
	PYTHONPATH=_build/inspect-ai $(BIN)/pytest tests/rollouts/test_inspect_logs.py

bench: $(READY)  ## timings, as ratios against a plain reference in the same run; those of a build go into README.md
	$(BIN)/python -m benchmarks --build --write README.md

readme: $(READY)  ## write the headline table of README.md from the results of the last build
	$(BIN)/panelbook headline --write README.md

lock: $(READY)  ## pin what is installed now (a local build of torch is pinned by its public version)
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' > requirements.lock

web:  ## check, test and bundle what runs in the browser, after editing web/; needs Node
	cd web && npm ci --no-fund --no-audit && npm run check && npm test && npm run build

clean:  ## remove what the two commands made, except the environment
	rm -rf _build runs

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --progress-bar off -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
