# The project's commands; `make help` lists them. Needs make, a POSIX sh and Python 3.11 or newer, nothing installed.

PYTHON_311 = import sys; sys.exit(sys.version_info < (3, 11))
RUN = .venv/bin/python -m normtables
TABLE_OPTIONS = --run --tier "$${TIER:-laptop}" $${JOBS:+--jobs "$$JOBS"} $${LAUNCHER:+--launcher "$$LAUNCHER"} \
	$${RESULTS:+--results "$$RESULTS"} $${YES:+--yes}

.PHONY: help setup reproduce test test-slurm lint dashboard bench check-reliability docs clean \
	reproduce-table-1 reproduce-table-2 reproduce-table-3 reproduce-table-4 reproduce-table-5 reproduce-table-6 \
	reproduce-table-7 reproduce-table-8 reproduce-table-9 reproduce-table-10 reproduce-table-11

## help                 these lines
help:
	@sed -n 's/^## //p' Makefile

## setup                Python 3.11 or newer with the tested packages into .venv [PYTHON=python3]
setup: .venv/.ready

# An environment that works is kept; one that is broken or too old is made anew.
.venv/.ready: pyproject.toml constraints.txt
	@.venv/bin/python -c 'import pip; $(PYTHON_311)' 2>/dev/null && exit; \
	set -- python3.13 python3.12 python3.11 python3; \
	if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; fi; \
	bare=; \
	for python do \
	    "$$python" -c '$(PYTHON_311)' 2>/dev/null || continue; \
	    if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        echo "making .venv with $$("$$python" --version)"; exec "$$python" -m venv --clear .venv; fi; \
	    bare=$${bare:-$$python}; \
	done; \
	if [ -n "$$bare" ]; then \
	    echo "$$bare lacks the venv module; install it (Debian and Ubuntu: apt-get install python3-venv) and call make again"; \
	else echo "normtables needs Python 3.11 or newer, tried: $$*; install one, or name it: make setup PYTHON=/path/to/python"; fi >&2; \
	exit 2
	.venv/bin/python -m pip install -c constraints.txt -e '.[sweep,dev]'
	@touch .venv/.ready

## reproduce-table-N    plan, run what is missing, judge, draw; N = 1..11 [TIER=laptop] [ROW=] [COLUMN=] [JOBS=] [LAUNCHER=] [RESULTS=] [YES=1]
reproduce-table-1 reproduce-table-2 reproduce-table-3 reproduce-table-4 reproduce-table-5 reproduce-table-6 \
reproduce-table-7 reproduce-table-8 reproduce-table-9 reproduce-table-10 reproduce-table-11:
	@n='$(@:reproduce-table-%=%)'; file=$$(printf 'experiments/table_%02d.yaml' "$$n"); \
	if [ ! -f "$$file" ]; then echo "table $$n does not exist yet: there is no $$file" >&2; exit 2; fi
	@$(MAKE) -s setup
	@$(RUN) table '$(@:reproduce-table-%=%)' $(TABLE_OPTIONS) $${ROW:+--row "$$ROW"} $${COLUMN:+--column "$$COLUMN"}

## reproduce            tables 1 to 10, with the same options; goes on after a failure and tells at the end
reproduce: setup
	@made=; failed=; later=; \
	for n in 1 2 3 4 5 6 7 8 9 10; do \
	    if ! grep -qs '^runnable: *true' "$$(printf 'experiments/table_%02d.yaml' "$$n")"; then later="$$later $$n"; continue; fi; \
	    $(RUN) table "$$n" $(TABLE_OPTIONS); code=$$?; \
	    if [ "$$code" -ge 128 ]; then exit "$$code"; fi; \
	    if [ "$$code" -eq 0 ]; then made="$$made $$n"; else failed="$$failed $$n"; fi; \
	done; \
	if [ -n "$$made" ] && [ "$${TIER:-laptop}" != smoke ]; then $(RUN) report $${RESULTS:+--results "$$RESULTS"}; fi; \
	echo "tables made:$${made:- none}; failed:$${failed:- none}; not runnable yet:$${later:- none}"; \
	[ -z "$$failed" ]

## test                 the tests, on two to four cores at once
test: setup
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile

## test-slurm           tables on a real Slurm of one node, which it installs and starts; needs root, half an hour
test-slurm: setup
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[slurm]'
	bash tests/slurm/up.sh
	NORMTABLES_SLURM=1 .venv/bin/python -m pytest tests/slurm -rA --durations=0

## lint                 ruff (rules and format) and mypy
lint: setup
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy

## dashboard            the published numbers beside ours, served on this machine
dashboard: setup
	@$(RUN) dashboard

## bench                measured ratios: the trainer, methods, image, tabular, language and Q-networks, 10,000 records
bench: setup
	@.venv/bin/python scripts/bench_trainer.py
	@.venv/bin/python scripts/bench_norms.py
	@.venv/bin/python scripts/bench_images.py
	@.venv/bin/python scripts/bench_tabular.py
	@.venv/bin/python scripts/bench_lstm.py
	@.venv/bin/python scripts/bench_dqn.py
	@.venv/bin/python scripts/bench_store.py

## check-reliability    sweeps that are killed, doubled, out of disk: the same records as undisturbed? half an hour
check-reliability: setup
	@.venv/bin/python scripts/check_reliability.py

## docs                 docs/methods.md: all methods, what they compute and what they cost by docs/costs.csv
docs: setup
	@.venv/bin/python scripts/list_methods.py

## clean                remove caches; results and .venv stay
clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find src tests scripts -type d -name __pycache__ -prune -exec rm -rf {} +

.DEFAULT:
	@echo "there is no target '$@'; make help lists what there is" >&2; exit 2
