# SPDX-License-Identifier: GPL-3.0-or-later
# The commands of the project. Each provides what it needs.
.PHONY: site remove doctor backup restore test lint unit sanity integration molecule team bench docs lock clean
.DEFAULT_GOAL := help
A ?=
# Which tests to run: a scenario, single tests, repetitions, and whether to keep the test host (see CONTRIBUTING.md).
S ?=
T ?=
N ?=
KEEP ?=
J ?=
RUN = PYTHONPATH=tests .venv/test/bin/python -m runner $(if $(J),--jobs $(J))
SELECTION = $(if $(S),--scenario $(S)) $(if $(T),--tests='$(T)') $(if $(N),--repeat $(N)) $(if $(KEEP),--keep)

help: ## Show the commands
	@sed -n 's/^\([a-z ]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 26

site: ## Deploy the mirror on this machine (options of ansible-playbook: A="-e devpi_mirror_port=3142")
	@requirements/venv site && playbooks/run devpi.mirror.site $(A)

remove: ## Uninstall it from this machine (with its data: A="-e devpi_server_remove_data=true")
	@requirements/venv site && playbooks/run devpi.mirror.remove $(A)

doctor: ## Report its health, and which users' pip uses it
	@requirements/venv site && playbooks/run devpi.mirror.doctor $(A)

backup: ## Back it up (to devpi_server_backup_folder)
	@requirements/venv site && playbooks/run devpi.mirror.backup $(A)

restore: ## Restore a backup (A="-e devpi_server_restore_file=/var/backups/devpi-mirror/NAME")
	@requirements/venv site && playbooks/run devpi.mirror.restore $(A)

test: ## Run all tests
	@requirements/venv test && $(RUN)

lint sanity integration: ## Run one kind of test
	@requirements/venv test && $(RUN) $@

unit: ## Run the unit tests (some of them, on one Python: T="-k backup")
	@requirements/venv test && $(RUN) $@ $(SELECTION)

molecule: ## Run the scenarios (one: S=faults, one test: T=test_disk, ten times: N=10, keep its host: KEEP=1)
	@requirements/venv test && $(RUN) $@ $(SELECTION)

team: ## Run the scenario with several servers and laptops, which "make test" does not run
	@requirements/venv test && $(RUN) molecule --scenario team

bench: ## Measure the mirror beside the alternatives
	@requirements/venv test && requirements/venv bench
	@PYTHONPATH=tests .venv/bench/bin/python tests/benchmarks/speed.py
	@PYTHONPATH=tests .venv/test/bin/python tests/benchmarks/clients.py

docs: ## Generate docs/variables.md, and build the documentation site
	@requirements/venv docs && .venv/docs/bin/python docs/site/variables.py && .venv/docs/bin/python docs/site/build.py

lock: ## Lock the Python environments again
	@requirements/venv test && requirements/lock --upgrade

clean: ## Remove what these commands have created in this folder
	@rm -rf .venv .cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
