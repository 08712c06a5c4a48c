#!/usr/bin/env bash
# Proves without an AWS account that every change written to a table arrives behind the bus.
# Needs ddbrelay[local] and python3 on the PATH; ends with one line and 0, or with a code above 0.
set -euo pipefail

step="make a work folder"
work=$(mktemp -d)

finish() {
  local code=$?
  trap '' INT TERM
  ddbrelay local stop --quiet || code=$((code ? code : 1))
  rm -rf "$work"
  ((code == 0)) || echo "smoke: FAILED with exit code $code, at: $step"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cd "$work"
export DDBRELAY_STATE_DIR=$work/state DDBRELAY_LOCAL=1 DDBRELAY_TABLE=users

# `field FILE NAME` prints a field of the summary, which is the last line of every JSON output.
field() {
  python3 -c 'import json, sys; print(json.loads(open(sys.argv[1]).readlines()[-1])[sys.argv[2]])' "$@"
}

# `check FILE NAME NUMBER` fails the job unless the summary has that number.
check() {
  local found
  found=$(field "$1" "$2")
  if [[ $found != "$3" ]]; then
    echo "smoke: $2 is $found in $1, expected $3:" >&2
    tail -n 1 "$1" >&2
    return 1
  fi
}

step="start the embedded AWS"
ddbrelay local start --quiet

step="provision"
ddbrelay provision --quiet

step="seed"
ddbrelay seed --count 20 --updates 0.5 --deletes 0.25 --random-seed 7 --output json >seed.json
written=$(($(field seed.json inserted) + $(field seed.json updated) + $(field seed.json deleted)))

step="relay"
ddbrelay tail --quiet --forward --until-idle 2s --timeout 60s --output json >relay.json
check relay.json published "$written"
check relay.json skipped 0

step="receive"
ddbrelay listen --expect "$written" --timeout 60s --output json >received.json
check received.json distinct "$written"
check received.json duplicates 0

echo "smoke: ok, $written changes written, relayed and received, none twice"
