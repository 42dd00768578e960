# Everything here makes .venv from the locked requirements first, when it is absent or stale.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

# Two frameworks in one process have two thread pools, which spin against each other on few cores.
export OMP_NUM_THREADS := 1
export TF_CPP_MIN_LOG_LEVEL := 3

PYTEST := $(BIN)/python -m pytest
KERAS_OWN := tests/framework_suites/test_keras_own.py
KERAS_TESTS := tests/keras_layers tests/keras_models tests/keras_optimizer $(KERAS_OWN)

TOOLS := $(VENV)/integrations

.PHONY: install demo test coverage test-frameworks test-zoo test-integrations lint docs docs-check results bench lock clean

install: $(STAMP)

# The stamp is written last: an installation that was interrupted is stale.
$(STAMP): requirements.lock pyproject.toml hatch_build.py $(wildcard do_conv/native/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "the locked requirements are for Python 3.11: make PYTHON=python3.11 $@" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/do-conv demo

# Keras chooses its backend when it is imported: a process for each of the three.
test: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) -q $(COVERAGE) $(KERAS_TESTS)
	KERAS_BACKEND=jax $(PYTEST) -q -n 2 $(COVERAGE) $(KERAS_TESTS)
	KERAS_BACKEND=tensorflow $(PYTEST) -n 2 $(COVERAGE) tests

# The same tests, which take longer, and what lines and branches of do_conv none of them runs.
coverage: $(STAMP)
	rm -f .coverage
	$(MAKE) test COVERAGE="--cov=do_conv --cov-append --cov-report="
	$(BIN)/coverage report

# All of the frameworks' own tests, with our layers in place of theirs; the first case of each is
# among the tests.
test-frameworks: $(STAMP)
	KERAS_BACKEND=torch $(PYTEST) -q --frameworks $(KERAS_OWN)
	KERAS_BACKEND=jax $(PYTEST) -q --frameworks $(KERAS_OWN)
	KERAS_BACKEND=tensorflow $(PYTEST) -q --frameworks tests/framework_suites

# Every network of the zoos, for hours; a few of them are among the tests.
test-zoo: $(TOOLS)/installed
	KERAS_BACKEND=tensorflow $(TOOLS)/bin/python -m pytest -q --zoo --zoo-page docs/zoo.md tests/zoo

# The training tools, in an environment on top of the first one, which stays as it is.
test-integrations: $(TOOLS)/installed
	KERAS_BACKEND=tensorflow $(TOOLS)/bin/python -m pytest -q tests/integrations
	KERAS_BACKEND=tensorflow $(TOOLS)/bin/python -m pytest -q -k integrations.md tests/docs/test_docs_examples.py

$(TOOLS)/installed: $(STAMP) tests/integrations/requirements.lock tests/zoo/requirements.txt
	$(PYTHON) -m venv $(TOOLS)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir({!r})".format(sysconfig.get_path("purelib")))' \
		> $$($(TOOLS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement tests/integrations/requirements.lock
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--requirement tests/zoo/requirements.txt
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/tools/prose.py

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

# The built site in Chromium, without a network: needs Debian's chromium-driver, or the like.
docs-check: docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--requirement docs/tools/requirements.lock
	$(BIN)/python docs/tools/check.py site

# The pages of results and of speed, and their pictures, from the files of the runs.
results: $(STAMP)
	$(BIN)/python -m examples.report
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m pictures

# The drawings, and what the first page and the page on choosing have from the files of the runs.
.PHONY: pictures
pictures: $(STAMP)
	$(BIN)/python -m pictures

# What DO-Conv costs, for an hour; `make bench QUICK=1` measures the most telling sizes alone.
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

# torch is pinned exactly, so that an index or a folder that holds its build for the CPU serves that
# one; a newer one would be taken with several gigabytes of CUDA packages. The lock names the public
# version, which every index knows.
lock: $(STAMP)
	echo 'torch==2.13.0' > $(VENV)/constraints.txt
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --constraint $(VENV)/constraints.txt \
		--output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
		--constraint requirements.lock --output-file docs/tools/requirements.lock \
		docs/tools/requirements.in
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --no-emit-index-url \
		--no-emit-find-links --constraint requirements.lock \
		--output-file tests/integrations/requirements.lock tests/integrations/requirements.in
	for lock in requirements.lock tests/integrations/requirements.lock; do \
		sed -i.bak 's/^torch==2.13.0+cpu/torch==2.13.0/' $$lock && rm $$lock.bak; done

clean:
	rm -rf $(VENV) site build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
