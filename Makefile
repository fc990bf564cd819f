# BUS=postgres|kafka  DATA=DIR  ORDERS=N  CONCURRENCY=N  ARGS="more for settle bench"
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up down logs demo seed test races bench chaos money soak

export CARGO_TERM_COLOR ?= auto
export PATH := $(CURDIR)/target/tools/bin:$(PATH)
ORDERS ?= 20000
RACES ?= 10000
CONCURRENCY ?= 2048
on_bus := $(if $(BUS),--bus $(BUS))
with_data := $(if $(DATA),SETTLE_DATA=$(abspath $(DATA)))
kafka := $(filter kafka,$(BUS))

help: ## what there is
	@awk -F ' *## ' '/^[a-z]+:.* ## / { sub(/:.*/, "", $$1); printf "make %-7s %s\n", $$1, $$2 } END { print "with BUS=kafka, DATA=DIR, and for bench ORDERS=N CONCURRENCY=N ARGS=..." }' Makefile

up: ## build, start in the background, wait until ready
	@deploy/bootstrap.sh $(kafka)
	@cargo build
	@deploy/background.sh up $(on_bus) $(if $(DATA),--data $(abspath $(DATA)))

down: ## stop it and wait
	@deploy/background.sh down

logs: ## follow its log
	@tail -n 50 -F target/settle.log

demo: up ## orders that settle each in another way, and what came of them
	@$(with_data) target/debug/settle demo

seed: up ## the products of the examples
	@$(with_data) target/debug/settle seed

test: ## everything CI checks
	@deploy/bootstrap.sh kafka python buf
	cargo fmt --all --check
	buf lint
	buf format --diff --exit-code
	check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	@cargo build --workspace
	@status=0; cargo test --workspace --no-fail-fast 2>&1 | tee target/test.log || status=$$?; deploy/test-sum.sh target/test.log || status=1; exit $$status

races: ## the long form of the cancel races: RACES=N of them a bus, 10,000 unless said
	@deploy/bootstrap.sh kafka
	SETTLE_RACES=$(RACES) cargo test --package settle --test system cancel_races:: -- --test-threads=1 --nocapture

bench: ## orders a second on this machine, as JSON
	@deploy/bootstrap.sh $(kafka)
	@cargo build --release
	@target/release/settle bench --orders $(ORDERS) --concurrency $(CONCURRENCY) $(on_bus) $(ARGS) --output json

chaos: ## five minutes of killed and stopped processes on Kafka
	@deploy/bootstrap.sh kafka
	@cargo build --release
	@SETTLE_CHAOS_S=300 SETTLE_TEST_BIN=$(CURDIR)/target/release/settle cargo test --test system scale_out -- --nocapture

money: ## ten thousand orders under provider chaos, payment put back by a minute, what slow calls cost
	@deploy/bootstrap.sh kafka
	@cargo build --release
	@SETTLE_CHAOS_ORDERS=10000 SETTLE_RESTORE_S=60 SETTLE_TEST_BIN=$(CURDIR)/target/release/settle cargo test --test system -- --nocapture --test-threads 1 under_provider_chaos put_back_under_load
	@SETTLE_TEST_BIN=$(CURDIR)/target/release/settle cargo test --test system one_percent_of_calls -- --ignored --nocapture

soak: ## what takes long: an old snapshot, an orchestrator away, a million orders
	@deploy/bootstrap.sh
	@cargo test --release --test system soak -- --ignored --nocapture --test-threads 1
	@SETTLE_OUTBOX_RETENTION_S=60 target/release/settle bench --orders 1000000 --sample-every 50000 --no-floors --output json
