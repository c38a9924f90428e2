# make demo   install into .venv and run the quick start
# make test   install into .venv and pass the tests
# make check  lint, format and types
# make docs   build the documentation site in site/
PYTHON ?= python3
CONFIG ?= configs/quickstart.yaml
RUNS ?= runs
WORKERS ?= 2
BIN := .venv/bin

.PHONY: demo test slow check docs clean

demo: .venv.stamp
	$(BIN)/leanrx sweep $(CONFIG) --runs $(RUNS)
	$(BIN)/leanrx export $(RUNS)/$(basename $(notdir $(CONFIG))) smallest --format onnx
	@echo "open $(RUNS)/$(basename $(notdir $(CONFIG)))/report/index.html"

test: .venv.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

slow: .venv.stamp
	$(BIN)/python -m pytest -m slow

check: .venv.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

# constraints.txt holds versions that are known to work together.
.venv.stamp: pyproject.toml constraints.txt
	@echo "installing into .venv: about 5 GB, some minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch .venv.stamp

clean:
	rm -rf .venv .venv.stamp site
