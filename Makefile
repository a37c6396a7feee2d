# `make run` starts the server for development; `make test` checks everything. Nothing but Python 3.11 is needed.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
CONFIG ?= var/kms.toml
FUZZED := tests/kmip/test_properties.py tests/keystore/test_any_request.py tests/keystore/test_lifecycle.py \
	tests/keystore/test_bulk.py

.PHONY: run test test-db test-postgres test-mariadb test-browser test-survival fuzz bench clean

run: .venv/.runtime $(CONFIG) var/root.key
	@export KMS_CONFIG=$(CONFIG) && $(BIN)/python manage.py migrate --verbosity 0 && \
	$(BIN)/python manage.py initadmin && exec $(BIN)/python manage.py runkms --examples

test: .venv/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal

# Against the servers that TEST_POSTGRES_URL and TEST_MARIADB_URL name; those not named are left out.
test-db: .venv/.development
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-postgres test-mariadb

test-postgres test-mariadb: test-%: .venv/.development
	@url="$$(printenv TEST_$(if $(filter postgres,$*),POSTGRES,MARIADB)_URL || true)"; \
		[ -z "$$url" ] || DATABASE_URL="$$url" $(BIN)/python -m pytest -m "django_db or scale"

# A real browser on the real server; Debian's Chromium is installed where it is missing and this may be done.
test-browser: .venv/.development
	@command -v chromium > /dev/null || apt-get install -y -q chromium
	$(BIN)/python -m pytest -n auto --dist loadfile -m browser --browser-tests

# Fifty random points of each kind of work that must survive kill -9; `make test` takes a few.
test-survival: .venv/.development
	SURVIVAL_POINTS=50 $(BIN)/python -m pytest tests/test_survival.py

# What must hold for any input, with FUZZ_EXAMPLES inputs each instead of some sixty.
fuzz: .venv/.development
	$(BIN)/python -m pytest --hypothesis-profile=fuzz -n auto --dist worksteal $(FUZZED)

bench: .venv/.development
	$(BIN)/python -m benchmarks.table

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) .ci/make_venv.py .venv

.venv/.runtime: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.development: requirements-dev.txt requirements-tracing.txt .venv/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

var/kms.toml: | .venv/.runtime
	@KMS_CONFIG=/dev/null $(BIN)/python manage.py initpki --folder var/pki --write-config $@ >/dev/null

var/root.key: | .venv/.runtime
	@KMS_CONFIG=/dev/null $(BIN)/python manage.py initrootkey
