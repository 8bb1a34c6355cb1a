# Two commands do everything: `make run` and `make test`. Each makes .venv and installs what it needs on its first call.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= test
WORKERS ?= 2
# make test COVERAGE=1 also measures which lines the tests run; they take a third longer then.
COVERAGE ?=
MEASURE = --cov=edgeae --cov-report=term:skip-covered --cov-fail-under=90

.PHONY: run test test-all lint bench clean

run: $(VENV)/.installed-samples
	$(VENV)/bin/edgeae run -o out

test: $(VENV)/.installed-$(EXTRAS) lint
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile $(if $(COVERAGE),$(MEASURE))

# Everything: whole matrices, every backend and compiler. By hand, before a release; CONTRIBUTING.md says how long it takes.
test-all: $(VENV)/.installed-$(EXTRAS) lint
	EDGEAE_TESTS=all $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-$(EXTRAS)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(VENV)/.installed-$(EXTRAS)
	$(VENV)/bin/python -m pytest tests/bench --benchmark-only --benchmark-columns=min,median,stddev,rounds

# A system Python may come without the venv module; virtualenv, put beside it, takes its place. Where there is no clang
# the CPU backend gets one from pip.
$(VENV)/.installed-%: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  $(PYTHON) -m pip install -q --target $(VENV)-tool virtualenv && \
	  PYTHONPATH=$(VENV)-tool $(PYTHON) -m virtualenv -q $(VENV); }
	compiler=; command -v clang >/dev/null || compiler=,compiler; \
	  $(VENV)/bin/python -m pip install -q -e ".[$*$$compiler]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-tool out
