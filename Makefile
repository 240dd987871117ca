# make study   three notebooks, top to bottom
#              (DATA=… PROFILE=quick|study|full RUN=… CLASSES=… MINORITY=… ALSO=… GROUPS=… SWEEPS=1 SCHEDULER=tcp://…
#              CLASSIFIER=… GAN_RECIPE=…)
# make sweep   one sweep alone: SWEEP=fakes (other numbers of fakes) or SWEEP=real (fewer real images), same settings
# make data    download the Kaggle set          make test    everything that is promised, checked
# make bench   speed against references, in tables  make lint   style of code and notebooks
# make test-slow  what takes too long for every day: many kills, other Pythons (up to an hour)
# make lock    pin requirements.txt and all below it again

PYTHON ?= python3
VENV := .venv
RUN_IN := $(VENV)/bin/python
DATA ?=
PROFILE ?= quick
RUN ?=
CLASSES ?=
MINORITY ?=
ALSO ?=
GROUPS ?=
SWEEPS ?=
SCHEDULER ?=
CLASSIFIER ?=
GAN_RECIPE ?=
SWEEP ?= real

.PHONY: study sweep data test test-slow bench lint refresh lock
.DEFAULT_GOAL := study

ASKED = --data "$(DATA)" --profile "$(PROFILE)" --run "$(RUN)" --classes "$(CLASSES)" --minority "$(MINORITY)" --also "$(ALSO)" \
  --groups "$(GROUPS)" --scheduler "$(SCHEDULER)" --classifier "$(CLASSIFIER)" --gan-recipe "$(GAN_RECIPE)"

study: $(VENV)/installed
	@$(RUN_IN) notebooks/run.py $(ASKED) --sweeps "$(SWEEPS)"

sweep: $(VENV)/installed
	@$(RUN_IN) notebooks/run.py $(ASKED) --sweep "$(SWEEP)"

data: $(VENV)/installed
	@$(RUN_IN) -m xraygan.data.kaggle_download

test: $(VENV)/installed
	@$(RUN_IN) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/installed
	@$(RUN_IN) -m pytest -m slow

bench: $(VENV)/installed
	@$(RUN_IN) -m benchmarks.steps
	@$(RUN_IN) -m benchmarks.pipeline
	@$(RUN_IN) -m benchmarks.determinism

lint: $(VENV)/installed
	@$(RUN_IN) -m ruff check . && $(RUN_IN) -m ruff format --check . && $(VENV)/bin/lint-imports

# Runs the notebooks on the phantom and writes their outputs into the committed notebooks and README.
refresh: $(VENV)/installed
	@$(RUN_IN) notebooks/run.py --data phantom --refresh
	@$(RUN_IN) -m xraygan.report.readme

lock: $(VENV)/installed
	@$(RUN_IN) -m pip install --quiet uv
	@$(RUN_IN) -m uv pip compile requirements.txt --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --output-file requirements.lock

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "This project needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true); name another with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) > /dev/null 2>&1 || \
	  { rm -rf $(VENV); echo "'$(PYTHON) -m venv' failed: install Python's venv module (on Debian and Ubuntu: apt install python3-venv), then run make again."; exit 1; }
	@echo "Installing the packages of requirements.lock into $(VENV) (about two minutes, 3 GB) …"
	@$(RUN_IN) -m pip install --quiet --disable-pip-version-check --retries 2 --require-hashes -r requirements.lock > $(VENV)/install.log 2>&1 || \
	  { tail -n 3 $(VENV)/install.log; echo "Installing failed (all of it: $(VENV)/install.log): check the network connection and run make again."; exit 1; }
	@touch $@
