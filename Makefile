# Two commands matter: `make demo` and `make test`. Both install what they need by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WEB_SOURCES := $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/package.json web/vite.config.ts web/tsconfig.json

.PHONY: help ohif demo test check test-web test-python bench bench-dicom bench-index bench-receive bench-analyse clean web install

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(INSTALLED): pyproject.toml constraints.txt
	@echo "== Python packages into $(VENV) (first time: some minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(BIN)/pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[test]'
	@touch $@

web/node_modules/.installed: web/package-lock.json
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed for the page: install it, then try again"; exit 1; }
	@echo "== Packages of the page into web/node_modules"
	cd web && npm ci --no-fund --no-audit
	@touch $@

web/dist/index.html: web/node_modules/.installed $(WEB_SOURCES)
	@echo "== Building the page"
	cd web && npm run build
	@touch $@

tests/e2e/ohif/node_modules/.installed: tests/e2e/ohif/package-lock.json
	@echo "== The OHIF viewer into tests/e2e/ohif (50 MB, for one browser test; without it that test is skipped)"
	-@cd tests/e2e/ohif && npm ci --no-fund --no-audit --ignore-scripts && touch node_modules/.installed

ohif: tests/e2e/ohif/node_modules/.installed  ## Install the OHIF viewer that a browser test opens our studies with
install: $(INSTALLED)  ## Install the Python packages
web: web/dist/index.html  ## Build the page

demo: $(INSTALLED) web/dist/index.html  ## Send a chest CT through the whole path (ONCE=1 to exit after, STUDY=folder for your own)
	@$(BIN)/polyclinic demo $(if $(ONCE),--once) $(if $(STUDY),--study '$(STUDY)')

test: check test-web test-python  ## Everything that CI checks

check: $(INSTALLED)  ## Style, types and import directions
	@echo "== ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== mypy --strict"; $(BIN)/mypy
	@echo "== import directions"; $(BIN)/lint-imports

test-web: web/dist/index.html  ## Type check and unit tests of the page
	@echo "== page: type check and unit tests"; cd web && npm run --silent typecheck && npm test --silent

test-python: $(INSTALLED) web/dist/index.html ohif  ## All Python tests, the browser's included
	@echo "== pytest"; $(BIN)/pytest $(ARGS)

bench: bench-receive bench-analyse  ## Measure against peers; results belong in benchmarks/RESULTS.md

bench-dicom: bench-receive bench-index  ## C-STORE, DICOMweb and the index against peers and against size
	$(BIN)/python benchmarks/dicomweb.py

bench-index: $(INSTALLED)  ## Latency of searches at 10 thousand, 100 thousand and 1 million studies
	$(BIN)/python benchmarks/index_latency.py

bench-receive: $(INSTALLED)  ## C-STORE against dcmtk and Orthanc
	$(BIN)/python benchmarks/receive.py

bench-analyse: $(INSTALLED)  ## The chest CT agent, each step, against a plain implementation
	$(BIN)/python benchmarks/analyse.py

clean:  ## Remove what was installed and built
	rm -rf $(VENV) web/node_modules web/dist tests/e2e/ohif/node_modules

.PHONY: assess-chest-xray
assess-chest-xray: $(INSTALLED)  ## Figures of the chest X-ray agent from the development images (DATA=folder for another place)
	$(BIN)/python -m training.chest_xray.assess $(if $(DATA),--data '$(DATA)')

.PHONY: assess-chest-ct
CT_IMAGES ?= ../shared/data/ct
assess-chest-ct: $(INSTALLED)  ## Figures of the chest CT agent: simulated test split, and the real scan where it is (CARD=1 writes the page)
	$(BIN)/polyclinic assess chest_ct --data benchmarks/datasets/chest-ct-phantoms \
	  $(if $(wildcard $(CT_IMAGES)/lidc-0063),--data benchmarks/datasets/lidc-0063 --images '$(CT_IMAGES)') \
	  $(if $(CARD),--card docs/agents/chest_ct.md)
