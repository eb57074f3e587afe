#!/usr/bin/env bash
# Who leaked it: a clip issued to three recipients; one copy, cut by 5 % and encoded again, is traced.
# Usage: demo_marks.sh BIN DIRECTORY PAIR [ASSET [STRENGTH_DB]]
set -euo pipefail
bin=$1
dir=$2
pair=$3
asset=${4:-}
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() {
  say "$bin/reelsight $*"
  "$bin/reelsight" "$@"
}

mkdir -p "$dir"
export REELSIGHT_MARKS__PAIR=$pair
export REELSIGHT_MARKS__LEDGER=$dir/marks.ledger
export REELSIGHT_MARKS__KEY_FILE=$dir/tenant.key
if [[ -n ${5:-} ]]; then export REELSIGHT_MARKS__STRENGTH_DB=$5; fi
if [[ -z $asset ]]; then
  "$bin/reelsight" samples "$dir/clips" > /dev/null
  asset=$(find "$dir/clips" -name '*.mp4' | sort | head -n 1)
fi
run mark keygen "$dir/tenant.key"
for name in studio-4 studio-7 studio-9; do
  say "$bin/reelsight mark issue --asset clip --asset-file $asset --recipient $name"
  told=$("$bin/reelsight" mark issue --asset clip --asset-file "$asset" --recipient "$name" --json)
  serial=$("$bin/python" -c 'import json, sys; print(json.load(sys.stdin)["serial"])' <<< "$told")
  echo "$serial"
  run mark embed "$asset" "$dir/$name.mp4" --copy "$serial" --preset veryfast
done
say "$bin/python scripts/leak.py $dir/studio-7.mp4 $dir/found.mp4  # the middle 95 %, encoded again at CRF 28"
"$bin/python" "$(dirname "$0")/leak.py" "$dir/studio-7.mp4" "$dir/found.mp4"
run mark trace "$dir/found.mp4" --report "$dir/evidence.html"
printf '\nThe evidence is a page: %s\n' "$dir/evidence.html"
