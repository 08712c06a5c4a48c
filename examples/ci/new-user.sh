#!/usr/bin/env bash
# What a new user types, from the installation to the assertion, without an AWS account.
# Needs python3 with venv; installs what DDBRELAY_PACKAGE names, by default ddbrelay[local] from PyPI,
# into the folder DDBRELAY_VENV, by default one that goes with the rest.
set -euo pipefail

step="make a work folder"
here=$(cd "$(dirname "$0")" && pwd)
start=$PWD
work=$(mktemp -d)
venv=${DDBRELAY_VENV:-$work/venv}
[[ $venv == /* ]] || venv=$start/$venv

finish() {
  local code=$?
  trap '' INT TERM
  if [[ -x $venv/bin/ddbrelay ]]; then
    ddbrelay local stop --quiet || code=$((code ? code : 1))
  fi
  rm -rf "$work"
  ((code == 0)) || echo "new-user: FAILED with exit code $code, at: $step"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A ddbrelay.toml of the folder in which it was started has no say.
cd "$work"
export DDBRELAY_STATE_DIR=$work/state DDBRELAY_TABLE=users PATH=$venv/bin:$PATH

step="install"
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
(cd "$start" && "$venv/bin/pip" install --quiet "${DDBRELAY_PACKAGE:-ddbrelay[local]}")

step="start the embedded AWS"
ddbrelay local start --quiet
export DDBRELAY_LOCAL=1

step="doctor, before there is a table"
code=0
ddbrelay doctor || code=$?
((code == 5)) || { echo "new-user: doctor ended with $code, expected 5" >&2; exit 1; }

step="provision"
ddbrelay provision

step="seed"
ddbrelay seed --count 20 --random-seed 7

step="doctor"
ddbrelay doctor

step="tail --forward"
ddbrelay tail --forward --until-idle 2s --timeout 60s

step="listen"
ddbrelay listen --expect 20 --timeout 60s

step="expect"
ddbrelay expect "$here/signup.toml" --relay --junit "$work/report.xml"

echo "new-user: ok, from the installation to the assertion"
