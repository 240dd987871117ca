# make study   three notebooks, top to bottom
#              (DATA=… PROFILE=quick|study|full RUN=… CLASSES=… MINORITY=… ALSO=… GROUPS=… SWEEPS=1 SCHEDULER=tcp://…
#              CLASSIFIER=… GAN_RECIPE=… FAKES=… TEST_SHARE=…)
# make sweep   one sweep alone: SWEEP=fakes (other numbers of fakes) or SWEEP=real (fewer real images), same settings
# make clean   delete what a run has written: RUN=…; without it, list the runs
# make data    download the Kaggle set          make test    everything that is promised, checked
# make bench   speed against references, in tables  make lint   style of code and notebooks
# make test-slow  what takes too long for every day: many kills, other Pythons (up to an hour)
# make address write your public copy's address into badges and notebooks: ADDRESS=https://github.com/…; without it, that of git's origin
# make lock    pin requirements.txt and all below it again

VENV := .venv
RUN_IN := $(VENV)/bin/python

# What may be given behind `make study`. A value goes to the recipes as ASKED_NAME in the environment, where neither make nor a shell
# reads it as anything but text. A variable of that name in your shell's environment doesn't count.
PARAMETERS := DATA PROFILE RUN CLASSES MINORITY ALSO GROUPS SWEEPS SCHEDULER CLASSIFIER GAN_RECIPE FAKES TEST_SHARE SWEEP PYTHON ADDRESS
given = $(filter command,$(origin $(1)))
$(foreach name,$(PARAMETERS),$(eval unexport $(name)))
$(foreach name,$(PARAMETERS),$(eval export ASKED_$(name) = $$(if $$(call given,$(name)),$$(value $(name)))))
UNKNOWN := $(strip $(foreach name,$(filter-out $(PARAMETERS) -%,$(.VARIABLES)),$(if $(call given,$(name)),$(name))))
$(if $(UNKNOWN),$(error there is no parameter $(UNKNOWN); there are: $(PARAMETERS)))

# Settings of other programs, which would decide what Python imports.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE
export PYTHONUTF8 := 1

# .venv/installed is a copy of the lock that was installed. Where requirements.lock says something else by now, or where .venv's Python was
# removed or replaced, .venv is made again.
ifneq ($(shell cmp -s requirements.lock $(VENV)/installed && $(RUN_IN) -E -c "import filelock; print(1)" 2>/dev/null),1)
.PHONY: $(VENV)/installed
endif

.PHONY: study sweep clean data test test-slow bench lint refresh address lock
.DEFAULT_GOAL := study

ASKED = --data="$$ASKED_DATA" --profile="$$ASKED_PROFILE" --run="$$ASKED_RUN" --classes="$$ASKED_CLASSES" \
  --minority="$$ASKED_MINORITY" --also="$$ASKED_ALSO" --groups="$$ASKED_GROUPS" --scheduler="$$ASKED_SCHEDULER" \
  --classifier="$$ASKED_CLASSIFIER" --gan-recipe="$$ASKED_GAN_RECIPE" --fakes="$$ASKED_FAKES" --test-share="$$ASKED_TEST_SHARE"

study: $(VENV)/installed
	@$(RUN_IN) notebooks/run.py $(ASKED) --sweeps="$$ASKED_SWEEPS"

sweep: $(VENV)/installed
	@$(RUN_IN) notebooks/run.py $(ASKED) --sweep="$${ASKED_SWEEP:-real}"

clean: $(VENV)/installed
	@$(RUN_IN) notebooks/run.py --clean --run="$$ASKED_RUN"

data: $(VENV)/installed
	@$(RUN_IN) -m xraygan.data.kaggle_download

test: $(VENV)/installed
	@$(RUN_IN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/installed
	@$(RUN_IN) -m pytest -m slow

bench: $(VENV)/installed
	@$(RUN_IN) -m benchmarks.steps
	@$(RUN_IN) -m benchmarks.pipeline
	@$(RUN_IN) -m benchmarks.determinism

lint: $(VENV)/installed
	@$(RUN_IN) -m ruff check . && $(RUN_IN) -m ruff format --check . && $(VENV)/bin/lint-imports

# Runs the notebooks on the phantom, from nothing, into the committed notebooks; copies their numbers and figures, and names every stale line of the pages.
refresh: $(VENV)/installed
	@test ! -d results/phantom-quick || $(RUN_IN) notebooks/run.py --clean --run phantom-quick
	@$(RUN_IN) notebooks/run.py --data phantom --refresh
	@$(RUN_IN) -m xraygan.report.readme

address: $(VENV)/installed
	@$(RUN_IN) -m xraygan.report.address "$$ASKED_ADDRESS"

lock: $(VENV)/installed
	@$(RUN_IN) -m pip install --quiet uv
	@$(RUN_IN) -m uv pip compile requirements.txt --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --output-file requirements.lock

$(VENV)/installed:
	@test ! -L $(VENV) || \
	  { echo "$(VENV) is a symbolic link to '$$(readlink $(VENV))', which doesn't hold the packages of requirements.lock or whose Python doesn't run, and which something else may be using: remove the link with 'rm $(VENV)' and run make again, which makes an environment here."; exit 1; }
	@python="$${ASKED_PYTHON:-python3}"; \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "This project needs Python 3.11, 3.12 or 3.13, and '$$python' is $$("$$python" --version 2>&1 || true); name another with: make PYTHON=python3.12"; exit 1; }; \
	"$$python" -m venv --clear $(VENV) || \
	  { rm -rf $(VENV); echo "'$$python -m venv' failed (its message, if it gave one, is above): on Debian and Ubuntu, apt install python3-venv; then run make again."; exit 1; }
	@echo "Installing the packages of requirements.lock into $(VENV) (about two minutes, 3 GB) …"
	@$(RUN_IN) -m pip install --quiet --disable-pip-version-check --retries 2 --require-hashes -r requirements.lock > $(VENV)/install.log 2>&1 || \
	  { tail -n 20 $(VENV)/install.log; echo "Installing failed; pip's own message is above, and in $(VENV)/install.log. When its cause is mended, run make again."; exit 1; }
	@cp requirements.lock $@
