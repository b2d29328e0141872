# The two commands a newcomer needs are `make demo` and `make test`; each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo label notebooks docs docs-serve test lint check bench clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,embedding,docs,dev]'
	touch $@

demo: setup
	$(BIN)/pairwright run recipes/demo/run.yaml

# The demo's pairs for you: an account is made, the page opens, Ctrl-C ends it. Needs `make demo`.
label: setup
	$(BIN)/pairwright label serve recipes/demo/run.yaml label.dataset="Demo by hand" \
	  label.workspaces='{by-hand: {annotators: [you]}}' label.overlap=1 label.simulated=[]

# The course on the real model, into docs/notebooks; `make notebooks ONLY=05` runs one of them.
notebooks: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m notebooks.render $(ONLY)

# The variable hides a notice about the theme's successor.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

test: setup
	$(BIN)/pytest --numprocesses 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: setup
	$(BIN)/python benchmarks/road_speed.py

clean:
	rm -rf .venv runs site
