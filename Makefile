PYTHON ?= python3
PRESET ?= cpu
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help venv table2 paper weights beyond smoke list test lab site readme card publish export clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(INSTALLED)  ## create .venv and install signspot with its tools into it (once)

$(INSTALLED): settings.ini setup.py pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no '$(PYTHON)' here; try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "make: signspot needs Python 3.10, 3.11 or 3.12, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "make: '$(PYTHON) -m venv .venv' failed, see above" >&2; exit 1; }
	@echo "installing into .venv (once, a few minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]' || \
	  { echo "make: installing failed, see above; 'make' again to retry" >&2; exit 1; }
	@touch $@

table2: $(INSTALLED)  ## rerun the paper's Table 2 (PRESET=smoke, cpu or paper; cpu: minutes on two cores)
	@$(BIN)/signspot rerun table2 --preset $(PRESET)

paper: $(INSTALLED)  ## rerun every notebook of the paper (PRESET as above; cpu: within two hours on two cores)
	@$(BIN)/signspot rerun all --preset $(PRESET)

weights: $(INSTALLED)  ## teach the matcher and its first look again from nothing, into signspot/weights (within two hours on two cores; goes on where it was stopped)
	@$(BIN)/signspot rerun weights glance

beyond: $(INSTALLED)  ## the matcher beside DTW and the paper's model, on made-up signing and on recordings (under two hours on two cores; goes on where it was stopped)
	@$(BIN)/signspot rerun inventory cost glance rivals national beyond

smoke: $(INSTALLED)  ## every notebook of the paper in minutes, to see that all runs; its numbers mean nothing
	@$(BIN)/signspot rerun all --preset smoke

list: $(INSTALLED)  ## what each notebook of the paper takes and needs, and which results are older than the code
	@$(BIN)/signspot rerun --list

test: $(INSTALLED)  ## all tests
	@$(BIN)/python -m pytest -q -rfEs

lab: $(INSTALLED)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab nbs

site: $(INSTALLED)  ## all notebooks as linked pages to read along, in site/; open site/index.html
	@$(BIN)/python tools/site.py

readme: $(INSTALLED)  ## README.md from nbs/index.ipynb
	@$(BIN)/python tools/readme.py --run

card: $(INSTALLED)  ## measure the corpora anew and write data/README.md
	@$(BIN)/python tools/data_card.py --measure

publish: $(INSTALLED)  ## what was rerun into nbs/paper and the README, to be committed
	@$(BIN)/python tools/adopt.py
	@$(BIN)/python tools/readme.py --run

export: $(INSTALLED)  ## the library signspot/ from the notebooks
	@$(BIN)/nbdev_export

clean:  ## remove .venv and what building and testing leave behind (not runs/)
	rm -rf .venv build dist site *.egg-info .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
